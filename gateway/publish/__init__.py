"""MQTT: what is true, retained; what happened, as events. Reads the journal and never writes events."""
