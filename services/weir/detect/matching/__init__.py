"""Does an event match a rule: predicates, and the index that finds the few rules worth asking."""
