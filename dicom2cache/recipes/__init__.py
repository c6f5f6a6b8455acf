"""What is stored and how; the recipes that come along lie here too."""
