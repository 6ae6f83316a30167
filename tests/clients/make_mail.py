#!/usr/bin/env python3
"""Writes a small, deterministic folder of mail for when there is no real mail at hand.

usage: make_mail.py OUT_DIR COUNT

Sizes go from an empty file to some 3 MB, names from plain to hostile; the same arguments give the same bytes.
"""
import email.message
import email.utils
import pathlib
import random
import sys


def message(index, rng):
    mail = email.message.EmailMessage()
    mail["From"] = f"a{rng.randrange(500)}@example.com"
    mail["To"] = f"b{rng.randrange(500)}@example.net"
    mail["Subject"] = f"message {index}"
    mail["Date"] = email.utils.format_datetime(email.utils.localtime().replace(
        year=2026, month=1, day=1 + index % 28, hour=0, minute=0, second=index % 60, microsecond=0,
        tzinfo=None))
    mail["Message-ID"] = f"<{index}.{rng.randrange(1 << 40)}@example.com>"
    mail.set_content("".join(rng.choice("etaoin shrdlu\n") for _ in range(rng.randrange(200, 8000))))
    if index % 4 == 0:
        size = min(int(rng.lognormvariate(11, 1.5)), 2_000_000)
        mail.add_attachment(rng.randbytes(size), maintype="application", subtype="pdf", filename=f"{index}.pdf")
        mail.set_boundary(f"=={index:08d}==")
    return mail.as_bytes()


def main():
    out, count = pathlib.Path(sys.argv[1]), int(sys.argv[2])
    rng = random.Random(1)
    names = {0: "with space.eml", 1: "plus+and&amp=.eml", 2: "caf\u00e9.eml", 3: "percent%41.eml", 4: "1700000000.M1:2,S"}
    for index in range(count):
        folder = out / f"{index % 8:02x}"
        folder.mkdir(parents=True, exist_ok=True)
        body = b"" if index == 5 else message(index, rng)
        (folder / names.get(index, f"{index:06d}.eml")).write_bytes(body)


if __name__ == "__main__":
    main()
