"""``python -m planner.replay``: the commands of ``loadline replay``, as a started run's process calls them."""

from planner.replay_cli import app

if __name__ == "__main__":
    app(prog_name="loadline replay")
