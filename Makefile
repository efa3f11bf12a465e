# make up      a private Incus, the example deployed on it, URLs that answer
# make down    all of it gone again
# make test    every test, with the race detector
# make check   what CI does: format, vet, static analysis, test, goldens
# make soak    the long suites
# make bench   figures, side by side
# make peers   of these, the edge beside other proxies; UPDATE=1 writes the table
#              of docs/performance.md
#
# YES=1 installs missing Debian or Ubuntu packages without asking.
# PORT (8443) is where make up serves, on loopback.

PORT ?= 8443
LAB  ?= .lab

# Versions of the tools are pinned here and nowhere else.
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOFUMPT     := mvdan.cc/gofumpt@v0.12.0
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.8.0

.PHONY: up down build test check soak bench peers fmt
.DEFAULT_GOAL := build

build:
	@command -v go >/dev/null || { echo "swage needs Go 1.26 or later: see https://go.dev/doc/install" >&2; exit 1; }
	@CGO_ENABLED=0 go build -trimpath -o .bin/ ./cmd/swage ./cmd/lab

up: build
	@.bin/lab up --dir $(LAB)
	@.bin/lab deploy --dir $(LAB) --port $(PORT) examples/quickstart

down: build
	@.bin/lab down --dir $(LAB)

# The two that mostly wait for Incus come first, so that they wait beside the rest.
test: build
	@./cmd/lab/with-lab go test -race -timeout 40m ./cmd/swage ./runtime/incus ./...

check:
	@./cmd/lab/check

soak: build
	@SWAGE_SOAK=1 ./cmd/lab/with-lab go test -race -timeout 6h ./...

bench: build
	@./cmd/lab/with-lab go test -run '^$$' -bench . -skip '^BenchmarkPeers$$' -benchtime 10x ./cmd/swage
	@$(MAKE) -s peers
	@go test -run '^$$' -bench . ./edge ./reconcile/git ./schema

# What cannot be installed is not compared with.
peers: build
	@.bin/lab peers || echo "the edge is compared with what is installed already" >&2
	@go test -v -run '^$$' -bench '^BenchmarkPeers$$' -benchtime 1x ./cmd/swage $(if $(UPDATE),-update)

fmt:
	@go run $(GOFUMPT) -l -w .
