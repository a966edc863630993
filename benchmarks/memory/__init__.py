"""What engines really take of memory, part by part, beside what ``fastinfer.plan`` says before anything is loaded.

python -m benchmarks.memory --help
"""
