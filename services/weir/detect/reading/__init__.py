"""From a folder of Sigma files to a rule set."""
