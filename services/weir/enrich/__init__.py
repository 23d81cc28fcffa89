"""Tables that say more about an event than the event does: geography, assets, users, threat intelligence.

Pure: a table is made from the content of files, answers look-ups, and never changes; who watches files or reads topics makes a new
one and swaps it in (`weir.processors.tables`). Broken input raises `TableError` with every mistake, each naming file and line.
"""
