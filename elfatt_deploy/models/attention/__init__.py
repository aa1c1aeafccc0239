"""Attention mechanisms, one a file.

A mechanism is a function from `AttentionContext` to the branches of one block. A branch is a module
with `channels` (how many channels of Q, K and V it takes), `q_scale` (what the block multiplies Q
by beforehand, so that an export can fold it into the projection) and
`forward(q, k, v)`: three [B, N, channels] to [B*N, channels]. The block concatenates its branches.
"""
