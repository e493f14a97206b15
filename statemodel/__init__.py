"""What machines mean: types, models, guards, the engine. Pure: no clock, no I/O, no driver."""
