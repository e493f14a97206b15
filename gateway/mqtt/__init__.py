"""Speaking MQTT: one connection to a broker, whoever uses it. Knows no equipment, events or topic trees."""
