"""What behaves as Railway's GraphQL API on this machine, and really runs the services that it is told to."""
