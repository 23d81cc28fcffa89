"""What the makers of network devices and Unix put into syslog messages: one module a vendor, pure.

Each reads the text behind the header and answers what it holds under the vendor's own names, as text, or None where the text is
not its own. Nothing here raises for any text, and each costs one pass over it. What of it becomes which field of an event is in
`weir.processors.fields.devices`.
"""
