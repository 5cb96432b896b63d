"""The commands of the command line, in the order in which its help lists them."""

from __future__ import annotations

from fairsynth.commands.bench.command import bench
from fairsynth.commands.doctor.command import doctor
from fairsynth.commands.export.command import export
from fairsynth.commands.gc.command import gc
from fairsynth.commands.init.command import init
from fairsynth.commands.inspect.command import inspect
from fairsynth.commands.logs.command import logs
from fairsynth.commands.plan.command import plan
from fairsynth.commands.predict.command import predict
from fairsynth.commands.run.command import STAGES as STAGES
from fairsynth.commands.run.command import run
from fairsynth.commands.run.command import stage_command as stage_command
from fairsynth.commands.status.command import status

COMMANDS = (init, inspect, plan, run, status, logs, predict, export, gc, bench, doctor)
