import os
import subprocess
import sys

import pytest

from ssns.commands.run_folder import RunFolder
from ssns.errors import UserError


class TestLock:
    def test_a_second_process_is_refused_and_a_dead_one_lets_go(self, tmp_path):
        folder = RunFolder(tmp_path / "runs" / "toy")
        holder = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import sys, time; from pathlib import Path; from ssns.commands.run_folder import RunFolder\n"
                "with RunFolder(Path(sys.argv[1])).locked(): print('locked', flush=True); time.sleep(60)",
                folder.path,
            ],
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        assert holder.stdout.readline() == b"locked\n"
        try:
            with pytest.raises(UserError, match=f"process {holder.pid} works in this run folder"), folder.locked():
                pass
        finally:
            holder.kill()
            holder.communicate()
        with folder.locked():
            pass

    def test_processes_of_further_devices_may_join(self, tmp_path, monkeypatch):
        folder = RunFolder(tmp_path)
        with folder.locked():
            monkeypatch.setenv("RANK", "1")
            with folder.locked():
                pass
