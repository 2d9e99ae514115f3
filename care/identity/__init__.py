"""Who is who: how sure we are that two records are one person, and how they become one."""
