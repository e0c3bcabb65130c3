"""What Railway's machines do in the sandbox: images that exist or do not, containers that are started, watched and ended."""
