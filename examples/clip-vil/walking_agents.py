"""Trajectories of agents that read no instruction, in Room-to-Room's submission format.

stop: stays. random: five moves, each to any neighbour. shortest-random: the shortest path to any viewpoint that is
three to five moves away, as every goal is. shortest: the shortest path to the goal, which it is told.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import networkx as nx
import numpy as np

from mmkd_cli.data.connectivity import House, read_house
from mmkd_cli.data.sources.navigation_files import Instruction, read_r2r

AGENTS = ("stop", "random", "shortest-random", "shortest")
MOVES = (3, 5)


def walk(agent: str, house: House, item: Instruction, rng: np.random.Generator) -> list[int]:
    start, goal = house.index[item.path[0]], house.index[item.path[-1]]
    if agent == "stop":
        return [start]
    if agent == "shortest":
        return house.shortest_path(start, goal)
    if agent == "random":
        path = [start]
        for _ in range(MOVES[1]):
            path.append(int(rng.choice(sorted(house.graph[path[-1]]))))
        return path
    every = nx.single_source_dijkstra_path(house.graph, start)
    fitting = [path for path in every.values() if MOVES[0] <= len(path) - 1 <= MOVES[1]]
    return fitting[int(rng.integers(len(fitting)))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--connectivity", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of AGENT.json")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    items, houses = read_r2r(args.annotations), {}
    for agent in AGENTS:
        rng, found = np.random.default_rng(args.seed), []
        for item in items:
            if item.scan not in houses:
                houses[item.scan] = read_house(args.connectivity, item.scan)
            own = houses[item.scan]
            steps = [[own.viewpoints[node], 0.0, 0.0] for node in walk(agent, own, item, rng)]
            found.append({"instr_id": item.id, "trajectory": steps})
        (args.out / f"{agent}.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
