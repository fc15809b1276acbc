#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""netserver.py FOLDER [CERTIFICATE KEY]: servers of the host for tests of --allow.

Serves FOLDER over HTTP on 127.0.0.2, and over HTTPS with a certificate. /echo answers with the request's headers, and git
repositories below FOLDER/git are served by git http-backend. Writes the ports, a line, to FOLDER.ports when it serves. Not
127.0.0.1: clients do not use a proxy for that.
"""
import functools
import http.server
import os
import ssl
import subprocess
import sys
import threading


class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def read_body(self):
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while True:
            size = int(self.rfile.readline().split(b";")[0], 16)
            body += self.rfile.read(size)
            self.rfile.readline()
            if size == 0:
                return body

    def answer(self, status, content_type, body):
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def run_git(self):
        path, _, query = self.path.partition("?")
        body = self.read_body()
        variables = {
            "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": self.directory, "GIT_HTTP_EXPORT_ALL": "1",
            "REMOTE_USER": "guest", "REMOTE_ADDR": "127.0.0.2", "PATH_INFO": path, "QUERY_STRING": query,
            "REQUEST_METHOD": self.command, "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)), "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""), "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*",
        }
        done = subprocess.run(["git", "http-backend"], input=body, env=variables, stdout=subprocess.PIPE, check=False)
        head, _, answer = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        self.answer(int(fields.get("Status", "200").split()[0]), fields.get("Content-Type", "text/plain"), answer)

    def do_GET(self):
        if self.path.startswith("/git/"):
            self.run_git()
        elif self.path == "/echo":
            self.answer(200, "text/plain", str(self.headers).encode())
        else:
            super().do_GET()

    def do_POST(self):
        if self.path.startswith("/git/"):
            self.run_git()
        else:
            self.answer(200, "application/octet-stream", self.read_body())


def serve(folder, context):
    server = http.server.ThreadingHTTPServer(("127.0.0.2", 0), functools.partial(Handler, directory=folder))
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


folder = os.path.abspath(sys.argv[1])
ports = [serve(folder, None)]
if len(sys.argv) > 2:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(sys.argv[2], sys.argv[3])
    ports.append(serve(folder, tls))
with open(folder + ".new", "w") as file:
    file.write(" ".join(map(str, ports)) + "\n")
os.rename(folder + ".new", folder + ".ports")
threading.Event().wait()
