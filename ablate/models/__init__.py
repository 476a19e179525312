"""The model shelf: networks that give maps, finest first, with their `channels` and `strides`."""
