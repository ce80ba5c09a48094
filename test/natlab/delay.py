#!/usr/bin/env python3
"""A cable with delay, loss and rate: two TAP devices joined in user space (kernels without netem, and Node has no ioctl).

delay.py NETNS1 DEVICE1 NETNS2 DEVICE2
Prints "ready" when both devices exist. Each line on standard input is a JSON object that changes the shape of both
directions at once: {"delayMs": 25, "lossRatio": 0.01, "bytesPerSecond": 12500000, "queueBytes": 1000000}.
bytesPerSecond 0 is no limit; lossRatio 1 is a black hole. The end of standard input ends the cable.
"""
import collections
import ctypes
import fcntl
import json
import os
import random
import select
import struct
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TAP = 0x0002
IFF_NO_PI = 0x1000
CLONE_NEWNET = 0x40000000
LARGEST_FRAME = 65536

libc = ctypes.CDLL(None, use_errno=True)


def open_tap(netns, device):
    """Opens a new TAP device inside the named network namespace."""
    namespace = os.open("/run/netns/" + netns, os.O_RDONLY)
    if libc.setns(namespace, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns " + netns)
    os.close(namespace)
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22s", device.encode(), IFF_TAP | IFF_NO_PI, b""))
    return tap


class Direction:
    """Frames on their way from one device to the other, in order, each with the instant at which it may leave."""

    def __init__(self, source, target):
        self.source = source
        self.target = target
        self.queue = collections.deque()
        self.queued_bytes = 0
        self.line_free_at = 0.0

    def take(self, shape, chance, now):
        for _ in range(64):
            try:
                frame = os.read(self.source, LARGEST_FRAME)
            except BlockingIOError:
                return
            if chance.random() < shape["lossRatio"] or self.queued_bytes + len(frame) > shape["queueBytes"]:
                continue
            rate = shape["bytesPerSecond"]
            self.line_free_at = max(now, self.line_free_at) + (len(frame) / rate if rate > 0 else 0.0)
            self.queue.append((self.line_free_at + shape["delayMs"] / 1000.0, frame))
            self.queued_bytes += len(frame)

    def give(self, now):
        while self.queue and self.queue[0][0] <= now:
            frame = self.queue.popleft()[1]
            self.queued_bytes -= len(frame)
            try:
                os.write(self.target, frame)
            except (BlockingIOError, OSError):
                pass  # a full or disabled device loses the frame, as a real cable does


def main():
    taps = [open_tap(sys.argv[1], sys.argv[2]), open_tap(sys.argv[3], sys.argv[4])]
    directions = [Direction(taps[0], taps[1]), Direction(taps[1], taps[0])]
    shape = {"delayMs": 0, "lossRatio": 0.0, "bytesPerSecond": 0, "queueBytes": 4_000_000}
    chance = random.Random(1)
    poll = select.poll()
    for fd in taps + [0]:
        poll.register(fd, select.POLLIN)
    text = b""
    print("ready", flush=True)
    while True:
        waits = [direction.queue[0][0] for direction in directions if direction.queue]
        timeout = max(0.0, min(waits) - time.monotonic()) * 1000 if waits else None
        ready = [fd for fd, _ in poll.poll(timeout)]
        if 0 in ready:
            data = os.read(0, 65536)
            if not data:
                return
            *lines, text = (text + data).split(b"\n")
            for line in lines:
                shape.update(json.loads(line))
        now = time.monotonic()
        for direction in directions:
            if direction.source in ready:
                direction.take(shape, chance, now)
            direction.give(time.monotonic())


main()
