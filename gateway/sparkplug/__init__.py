"""The gateway as a Sparkplug B 3.0 edge node. Leaves MQTT itself to gateway/mqtt."""
