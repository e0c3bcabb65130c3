"""The gateway: status page, health answer, metrics, and two buttons. It shows what sweeps wrote and asks no service itself."""
