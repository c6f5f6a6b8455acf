"""Caches of one recipe become one."""
