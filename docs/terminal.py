"""Draws what a terminal shows of a real run: terminal.py GLM2LLAMA MODEL PICTURE.svg. Needs a system with pseudo-terminals.

A conversion that verifies itself, the judgement of its file, and a question, on 80 columns, in colour.
"""

import fcntl
import html
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

COLUMNS = 80
FONT = 14
ADVANCE, LINE, MARGIN = 8.43, 20, 18
COLOURS = {31: "#ff7b72", 32: "#56d364", 33: "#e3b341"}
CODE = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])")


def run(command: list[str], folder: str) -> str:
    """All that a command writes to its terminal."""
    master, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    environment = {"PATH": os.environ["PATH"], "HOME": folder, "TERM": "xterm-256color"}
    child = subprocess.Popen(command, cwd=folder, env=environment, stdin=side, stdout=side, stderr=side)
    os.close(side)
    written = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:  # the system's word for "the other side is closed"
            break
        if not piece:
            break
        written += piece
    if child.wait() != 0:
        sys.exit(f"{command}: exit code {child.returncode}\n{written.decode(errors='replace')}")
    return written.decode()


def screen(text: str) -> list[list[tuple[str, tuple]]]:
    """The lines that are left on the terminal: characters with their styles."""
    rows: list[list[tuple[str, tuple]]] = [[]]
    row = column = 0
    style: tuple = ()
    at = 0
    while at < len(text):
        if code := CODE.match(text, at):
            numbers = [int(n) for n in code[1].strip("?").split(";") if n]
            at = code.end()
            match code[2]:
                case "m":
                    style = () if not numbers or numbers == [0] else style + tuple(numbers)
                case "K":
                    rows[row] = [] if numbers == [2] else rows[row][:column]
                case "A":
                    row = max(0, row - (numbers[0] if numbers else 1))
                case "G":
                    column = (numbers[0] if numbers else 1) - 1
            continue
        c, at = text[at], at + 1
        if c == "\r":
            column = 0
        elif c == "\n":
            row, column = row + 1, 0
            if row == len(rows):
                rows.append([])
        else:
            if column == COLUMNS:  # the terminal goes on in the next line
                row, column = row + 1, 0
                if row == len(rows):
                    rows.append([])
            rows[row] += [(" ", ())] * (column - len(rows[row]))
            rows[row][column : column + 1] = [(c, style)]
            column += 1
    return rows


def spans(line: list[tuple[str, tuple]]) -> str:
    """A line of SVG's text."""
    text, at = "", 0
    while at < len(line):
        style = line[at][1]
        end = next((i for i in range(at, len(line)) if line[i][1] != style), len(line))
        piece = html.escape("".join(c for c, _ in line[at:end]))
        colour = next((COLOURS[n] for n in style if n in COLOURS), None)
        attributes = (f' fill="{colour}"' if colour else "") + (' font-weight="bold"' if 1 in style else "")
        text += f"<tspan{attributes}>{piece}</tspan>" if attributes else piece
        at = end
    return text


def draw(lines: list[list[tuple[str, tuple]]]) -> str:
    width, height = COLUMNS * ADVANCE + 2 * MARGIN, len(lines) * LINE + 2 * MARGIN
    texts = [
        f'<text x="{MARGIN}" y="{MARGIN + FONT + i * LINE}">{spans(line)}</text>' for i, line in enumerate(lines) if line
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" '
        f'height="{height}" role="img" aria-label="glm2llama in a terminal">\n'
        f'<rect width="100%" height="100%" rx="8" fill="#0d1117"/>\n'
        f'<g fill="#c9d1d9" font-family="ui-monospace,SFMono-Regular,Menlo,Consolas,\'DejaVu Sans Mono\',monospace" '
        f'font-size="{FONT}" xml:space="preserve">\n' + "\n".join(texts) + "\n</g>\n</svg>\n"
    )


def main() -> None:
    program, model, picture = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "trained").symlink_to(Path(model).resolve())
        name = "trained-Q4_K_M.gguf"
        commands = [
            ["convert", "trained", "--output", name, "--verify"],
            ["verify", "trained", name],
            ["ask", name, "What is the capital of France?", "--tokens", "40"],
        ]
        lines = []
        for arguments in commands:
            typed = " ".join(f'"{word}"' if " " in word else word for word in arguments)
            lines.append([(c, (1,)) for c in f"$ glm2llama {typed}"])
            shown = screen(run([str(Path(program).resolve()), *arguments], folder))
            while shown and not shown[-1]:
                shown.pop()
            lines += [*shown, []]
        Path(picture).write_text(draw(lines[:-1]), encoding="utf-8")


if __name__ == "__main__":
    main()
