"""MQTT: what is true, retained; what happened, as events. Everything here reads the journal, nothing writes it."""
