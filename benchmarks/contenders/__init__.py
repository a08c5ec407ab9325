"""Our client, our agent, and the plain SDK they are measured against."""
