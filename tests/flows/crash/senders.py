"""Send ADT messages of many patients and write down what was sent and what was acknowledged.

Each sender waits for each ACK; without one it connects anew and sends the same bytes again.
"""

import argparse
import json
import pathlib
import socket
import threading
import time

from conformance.identity_numbers import check_character_of_id_card


def id_card(sender, patient):
    # The 17th digit is odd for men.
    digits = f"9990011990{sender + 1:02}01{patient * 2 + 1:03}"
    return digits + check_character_of_id_card(digits)


def message(sender, patient, sequence):
    number = sender * 100 + patient
    control_id = f"S{sender}P{patient:02}N{sequence:04}"
    return control_id, (
        f"MSH|^~\\&|HIS{sender}|H1|QIAO|HUB|20260101080000+0800||ADT^A08^ADT_A01|{control_id}|P"
        "|2.5.1||||||UNICODE UTF-8\r"
        "EVN|A08|20260101080000+0800\r"
        f"PID|1||M{number:06}^^^H1^MR~{id_card(sender, patient)}^^^CN^NNCHN||张^三"
        f"||1990{sender + 1:02}01|M|||测试路{sequence}号^^深圳^广东^518000^CHN||10000000000\r"
        f"PV1|1|I|W{patient % 5}^1^1||||D{sender}^李^医生||||||||||||V{number:06}^^^H1^VN\r"
    ).encode()


class Sender(threading.Thread):
    def __init__(self, number, options, log):
        super().__init__()
        self.number, self.options, self.log = number, options, log
        self.connection = None

    def run(self):
        for sequence in range(1, self.options.each // self.options.patients + 1):
            for patient in range(self.options.patients):
                control_id, payload = message(self.number, patient, sequence)
                self.deliver(control_id, payload, patient, sequence)
                time.sleep(self.options.pace)

    def deliver(self, control_id, payload, patient, sequence):
        attempt = 0
        while True:
            attempt += 1
            told = {"id": control_id, "sender": self.number, "patient": patient, "n": sequence}
            self.log({"event": "sent", "attempt": attempt, **told})
            try:
                answer = self.exchange(payload)
            except OSError:
                self.connection = None
                time.sleep(0.1)
                continue
            code = answer.split(b"MSA|", 1)[1][:2].decode()
            self.log({"event": "acknowledged", "code": code, **told})
            return

    def exchange(self, payload):
        if self.connection is None:
            address = ("127.0.0.1", self.options.port)
            self.connection = socket.create_connection(address, timeout=15)
        self.connection.sendall(b"\x0b" + payload + b"\x1c\r")
        answer = b""
        while not answer.endswith(b"\x1c\r"):
            part = self.connection.recv(4096)
            if not part:
                raise OSError("closed")
            answer += part
        return answer


def main():
    parser = argparse.ArgumentParser()
    for name, kind in (("port", int), ("senders", int), ("each", int), ("patients", int)):
        parser.add_argument(f"--{name}", type=kind, required=True)
    parser.add_argument("--pace", type=float, default=0.0)
    parser.add_argument("--log", type=pathlib.Path, required=True)
    options = parser.parse_args()
    lock = threading.Lock()
    with options.log.open("w") as file:

        def log(entry):
            with lock:
                file.write(json.dumps(entry) + "\n")
                file.flush()

        threads = [Sender(number, options, log) for number in range(options.senders)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


main()
