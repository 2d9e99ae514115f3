"""Notices to people: one file for each channel, each a `Sender` of `NoticeText` as JSON.

A further channel is a file with a class that has `send`, `ask` and `close`, and a line in
`ops/notice_channels.py`.
"""
