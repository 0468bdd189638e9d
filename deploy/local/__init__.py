"""The whole pipeline on one machine, without containers, in four rooms above the folder of a stack (`home`).

`fetch` brings programs to the machine, `supervise` keeps any process, `servers` says how each server starts, `stack`
runs all of it together. Imports point from the last to the first.
"""
