#!/usr/bin/env bash
# Builds the image of deploy/Dockerfile without a container service, and runs a job in it.
#
#   deploy/check.sh TREE [OPTION OF buildah build ...]
#
# TREE is a folder with a Debian of Python 3.11 or newer, as debootstrap makes it; where it is not
# there, `debootstrap --variant=minbase --include=ca-certificates bookworm TREE` makes it. Further
# options are passed to `buildah build`, such as --secret id=pip,src=FILE for pip's settings of this
# machine and --volume for what those name; nothing of them stays in the image or here.
#
# Needs: root, Debian's buildah and (for TREE) debootstrap, openssl, python3, Debian's and pip's
# packages within reach, 15 GB of disk under CHECK_DIR (default: a new folder under TMPDIR), a
# quarter of an hour. Leaves nothing but TREE. CHECK_PORT: a free port of the loopback.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
tree=${1:?give a folder for the base, as debootstrap makes it}
shift
port=${CHECK_PORT:-18642}
made=$(mktemp -d "${CHECK_DIR:-${TMPDIR:-/tmp}}/sfumato-check.XXXXXX")
tool=(buildah --root "$made/storage" --runroot "$made/run" --storage-driver vfs)
server=

end() {
    if [ -n "$server" ]; then pkill -KILL --uid 10001 --full -- "--port $port" || true; fi
    "${tool[@]}" rm --all >/dev/null 2>&1 || true
    "${tool[@]}" rmi --all --force >/dev/null 2>&1 || true
    rm -rf "$made"
}
trap end EXIT

if [ ! -d "$tree" ]; then
    debootstrap --variant=minbase --include=ca-certificates bookworm "$tree"
fi

echo "base: $tree"
base=$("${tool[@]}" from scratch)
"${tool[@]}" add --quiet "$base" "$tree" / >/dev/null
"${tool[@]}" commit --quiet --rm "$base" localhost/sfumato-base >/dev/null

echo "build"
"${tool[@]}" build --isolation chroot --format docker --layers=false \
    --build-arg BASE=localhost/sfumato-base --tag localhost/sfumato \
    --file "$root/deploy/Dockerfile" "$@" "$root"

echo "run"
# what would be a volume and a secret; the container's user owns both
install --directory --owner 10001 --group 10001 "$made/state" "$made/secrets"
token=$(openssl rand -hex 16)
printf 'check = "%s"\n' "$token" >"$made/secrets/tokens"
chown 10001:10001 "$made/secrets/tokens"
chmod 600 "$made/secrets/tokens"
container=$("${tool[@]}" from localhost/sfumato)
user=$("${tool[@]}" inspect --type image --format '{{.OCIv1.Config.User}}' localhost/sfumato)
mapfile -t command < <("${tool[@]}" inspect --type image localhost/sfumato | python3 -c '
import json, sys
config = json.load(sys.stdin)["OCIv1"]["config"]
print(*config["Entrypoint"], *config["Cmd"], sep="\n")')
echo "user $user: ${command[*]}"
"${tool[@]}" run --isolation chroot \
    --volume "$made/state:/var/lib/sfumato" --volume "$made/secrets:/run/secrets:ro" \
    "$container" -- "${command[@]}" --port "$port" >"$made/out" 2>"$made/log" &
server=$!

if ! python3 - "$port" "$token" "$made/state" <<'PYTHON'
import hashlib, json, pathlib, sys, time, urllib.error, urllib.request

port, token, state = sys.argv[1:]


def ask(path, body=None, token=token):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}")
    request.add_header("Authorization", f"Bearer {token}")
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read()


until = time.monotonic() + 180
while True:
    try:
        ask("/readyz")
        break
    except OSError as error:
        if time.monotonic() > until:
            raise SystemExit(f"not ready within 180 s: {error}")
        time.sleep(1)
try:
    ask("/v1/jobs", token="x" * 20)
except urllib.error.HTTPError as error:
    assert error.code == 401, error
else:
    raise SystemExit("a wrong token was let in")
recipe = {"model": "emoji", "prompt": "red apple", "seed": 3, "steps": 4, "stages": 1}
job = json.loads(ask("/v1/jobs", {"recipe": recipe}))
events = ask(f"/v1/jobs/{job['id']}/events").decode()  # ends with the job
assert "event: done" in events, events
result = json.loads(ask(f"/v1/jobs/{job['id']}"))["results"][0]
picture = ask(f"/v1/images/{result['sha256']}")
assert picture.startswith(b"\x89PNG") and hashlib.sha256(picture).hexdigest() == result["sha256"]
owners = {path.stat().st_uid for path in pathlib.Path(state).rglob("*")}
assert owners == {10001}, owners
steps = events.count("event: step")
print(f"a job made in the container: {steps} steps, PNG of {len(picture)} bytes, {result['sha256']}")
PYTHON
then
    tail -n 30 "$made/log" >&2
    exit 1
fi

# As the container's init would; buildah passes no signal on, and has a process of that user too.
pkill -TERM --uid 10001 --full -- "^/opt/sfumato/bin/python.*--port $port"
wait "$server" || true
server=
if ! grep --quiet '"message": "stopping' "$made/log"; then
    echo "it did not stop when it was told to" >&2
    exit 1
fi
if ! "${tool[@]}" run --isolation chroot "$container" -- test ! -s /etc/pip.conf; then
    echo "pip's settings are in the image" >&2
    exit 1
fi
echo "held: built, run as $user, a job made and fetched, stopped"
