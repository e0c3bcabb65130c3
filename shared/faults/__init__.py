"""The crash campaign: flows killed at every point, a store that misbehaves, engines that restart; and what must hold then."""
