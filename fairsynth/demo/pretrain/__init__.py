"""The recipe that trained the demo's models, step by step: corpus, vae, clip, unet, flow, judge.

Run it with ``python -m jobs.pretrain_demo --out DIR``; each step resumes from what is in DIR.
"""
