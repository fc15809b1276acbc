# user wisp
# limit 600
# A virtual environment with pip in it, and a wheel that pip installs.
cd
python3 -m venv venv
cat >wheel.py <<'EOF'
import zipfile
with zipfile.ZipFile("job-1.0-py3-none-any.whl", "w") as wheel:
    info = "job-1.0.dist-info/"
    files = {
        "job.py": "def main():\n    print('installed')\n",
        info + "METADATA": "Metadata-Version: 2.1\nName: job\nVersion: 1.0\n",
        info + "WHEEL": "Wheel-Version: 1.0\nGenerator: job\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        info + "entry_points.txt": "[console_scripts]\njob = job:main\n",
    }
    for name, text in files.items():
        wheel.writestr(name, text)
    wheel.writestr(info + "RECORD", "".join(f"{name},,\n" for name in files))
EOF
venv/bin/python wheel.py
venv/bin/pip install --quiet --no-index --disable-pip-version-check ./job-1.0-py3-none-any.whl
[ "$(venv/bin/job)" = installed ]
venv/bin/pip --version | cut -d' ' -f 1,2
