# wsauth: the front door. `make` lists what there is.
SHELL := /bin/bash
VENV := .venv
PYTHON := $(VENV)/bin/python
export CARGO_TERM_PROGRESS_WHEN ?= never

.DEFAULT_GOAL := help
.PHONY: help demo test check loom docs python lib install uninstall clean
export PREFIX LIBDIR INCLUDEDIR DESTDIR

help: ## lists the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

demo: ## tells one story to every server, and compares their decisions
	@admin/demo.sh

test: ## runs every test; the last line says how many passed
	@admin/test.py

check: ## formatting, lints, licences, types
	@admin/check.sh

loom: ## model-checks the connection record alone
	@admin/loom.sh

docs: ## writes the pages that are made from the code
	@WSAUTH_WRITE_DOCS=1 cargo test -q -p wsauth --test refusals_page

python: $(VENV)/.ready ## builds the Python module into .venv
	@admin/python.sh

$(VENV)/.ready: python/requirements-dev.txt admin/venv.sh
	@admin/venv.sh

lib: ## builds the C library
	@admin/install.sh --build

install: ## installs the C library: PREFIX, LIBDIR, INCLUDEDIR, DESTDIR
	@admin/install.sh

uninstall: ## removes it again; the same variables
	@admin/install.sh --uninstall

clean: ## removes what was built
	rm -rf target $(VENV) out
