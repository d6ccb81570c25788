"""nat-train as a module: `torchrun --nproc-per-node 8 -m agents.training paper --out runs/a`."""

from nat_env.commands.entry import train

if __name__ == "__main__":
    train()
