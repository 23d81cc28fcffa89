"""Measurements that operators run on their own machines. (The developers' ones, `make bench`, are in `bench/` of the project.)"""
