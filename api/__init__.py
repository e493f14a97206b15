"""The REST and stream face. Declares the ports it needs and never imports the gateway."""
