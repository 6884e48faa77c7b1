"""Parts that several commands share; no command imports another one."""
