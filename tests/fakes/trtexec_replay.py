"""A program that answers like trtexec of one version, from captured text. Run it as a script:

    trtexec_replay.py SETTINGS.json [arguments of trtexec]

SETTINGS.json: `version`, `data` (folder of the captures), `column` (of flags.tsv), `scenario`, and
`runs`, a file that gets the arguments of each build on a line of its own.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

BODIES = {8: "nano_trt8.2.1_fp32_full.log", 10: "synthetic_trt10_build.log"}
PARSER_ERRORS = {8: "synthetic_trt8.2_parser_error.log", 10: "desktop_trt10_parser_error.log"}


def write(line, stream=None):
    stream = stream or sys.stdout
    stream.write(line + "\n")
    stream.flush()


def banner_number(version):
    major, minor, patch = (int(part) for part in version.split("."))
    return major * (10000 if major >= 10 else 1000) + minor * 100 + patch


class Trtexec:
    """One run."""

    def __init__(self, settings, arguments):
        self.version, self.scenario = settings["version"], settings["scenario"]
        self.data, self.runs = Path(settings["data"]), Path(settings["runs"])
        self.column, self.arguments = settings["column"], arguments
        self.era = 8 if self.version.startswith("8") else 10
        self.options = {}
        for argument in arguments:  # as argsToArgumentsMap splits them
            key, _, value = argument.partition("=")
            self.options.setdefault(key, []).append(value)

    def banner(self, word):
        build = " [b35]" if self.era == 10 and self.version != "10.3.0" else ""
        number = banner_number(self.version)
        line = f"&&&& {word} TensorRT.trtexec [TensorRT v{number}]{build} # trtexec "
        write(line + " ".join(self.arguments))

    def say(self, lines):
        """Information goes to stdout, the rest to stderr, as trtexec's logger does."""
        stream = sys.stdout
        for line in lines:
            level = line.partition("] [")[2][:1] if line.startswith("[0") else ""
            level = level or (line[1] if line[:3] in ("[E]", "[W]", "[I]") else "")
            if level:  # a line without a prefix goes where the one before it went
                stream = sys.stderr if level in "WEF" else sys.stdout
            write(line, stream)

    def replay(self, name):
        self.say(
            line
            for line in (self.data / name).read_text().splitlines()
            if not line.startswith("&&&&")
        )

    def fail(self):
        self.banner("FAILED")
        return 1

    def unknown(self):
        rows = [line.split("\t") for line in (self.data / "flags.tsv").read_text().splitlines()]
        rows = [row for row in rows if not row[0].startswith("#")]
        column = rows[0].index(self.column)
        known = {row[0] for row in rows[1:] if row[column] == "1"}
        given = [(key, value) for key, values in self.options.items() for value in values]
        return [(key, value) for key, value in given if key not in known]

    def run(self):
        self.banner("RUNNING")
        if "--help" in self.options:
            write("=== Model Options ===\n  --onnx=<file>  ONNX model")
            return 0
        with self.runs.open("a") as file:
            file.write(json.dumps(self.arguments) + "\n")
        unknown = self.unknown()
        if unknown:
            if self.era == 10:
                write("=== Model Options ===")
            self.say(f"[10/05/2025-10:46:31] [E] Unknown option: {k} {v}" for k, v in unknown)
            if self.era == 8:
                write("=== Model Options ===")
            return self.fail()
        if not Path(self.options["--onnx"][0]).is_file():
            self.say(["[E] [TRT] ModelImporter.cpp:735: Failed to parse ONNX model from file"])
            return self.fail()
        return getattr(self, self.scenario)()

    def save(self):
        Path(self.options["--saveEngine"][0]).write_bytes(b"ftrt" + b"plan" * 100)
        for cache in self.options.get("--timingCacheFile", []):
            Path(cache).write_bytes(b"timings")
        detailed = self.options.get("--profilingVerbosity") == ["detailed"]
        name = (
            "trt8.4_a100_resnet18_fp16.layerinfo.json" if detailed else "layerinfo_names_only.json"
        )
        if self.version.startswith("11"):
            name = "synthetic_trt11_layerinfo.json"
        Path(self.options["--exportLayerInfo"][0]).write_bytes((self.data / name).read_bytes())

    def success(self):
        self.replay(BODIES[self.era])
        self.save()
        self.banner("PASSED")
        return 0

    def parser_error(self):
        self.replay(PARSER_ERRORS[self.era])
        return self.fail()

    def static_shapes(self):
        self.replay("orin_trt10.3.0_static_shapes.log")
        return self.fail()

    def out_of_memory(self):
        self.replay("synthetic_out_of_memory.log")
        return self.fail()

    def out_of_memory_once(self):
        first = len(self.runs.read_text().splitlines()) == 1
        return self.out_of_memory() if first else self.success()

    def killed(self):
        self.say(["[07/14/2023-11:52:12] [I] Start parsing network model"])
        os.kill(os.getpid(), signal.SIGKILL)

    def killed_once(self):
        first = len(self.runs.read_text().splitlines()) == 1
        return self.killed() if first else self.success()

    def crashed(self):
        os.kill(os.getpid(), signal.SIGSEGV)

    def false_pass(self):
        self.save()
        self.replay("desktop_trt10.13.3_false_pass.log")
        self.banner("PASSED")
        return 0

    def no_plan(self):
        self.replay(BODIES[self.era])
        self.banner("PASSED")
        return 0

    def cut(self):
        self.replay(BODIES[self.era])
        self.save()
        return 0

    def more_workspace(self):
        self.say(["[05/13/2025-10:36:40] [E] Error[10]: Insufficient workspace for node {Foreign}"])
        return self.fail()

    def hang(self):
        self.say(["[07/14/2023-11:52:12] [I] Start parsing network model"])
        time.sleep(60)


if __name__ == "__main__":
    sys.exit(Trtexec(json.loads(Path(sys.argv[1]).read_text()), sys.argv[2:]).run())
