# SPDX-License-Identifier: Apache-2.0
#
# make            build everything but the kernel and images     make run     install what is missing, boot, run a command
# make check      build and pass every test                      make bench   the figures of docs/, measured here
# make lint       format, include edges, no writable globals     make install PREFIX=/usr/local
#
# SAN=address,undefined or SAN=thread builds with sanitizers, into a folder of its own.

SAN ?=
B ?= build$(if $(SAN),-$(firstword $(subst $(comma), ,$(SAN))))
comma := ,
PREFIX ?= /usr/local
VERSION := 0.1.0

CC ?= gcc
WARN := -Wall -Wextra -Wshadow -Wcast-qual -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wpointer-arith -Wundef \
        -Wformat=2 -Wno-format-nonliteral -Werror
CPPFLAGS := -D_GNU_SOURCE -DWISP_VERSION='"$(VERSION)"' -DWISP_PREFIX='"$(PREFIX)"' -I. -Iinclude
CFLAGS ?= -O2 -g
ALL_CFLAGS = -std=gnu11 $(WARN) $(CFLAGS) -fno-strict-aliasing -fvisibility=hidden -fstack-protector-strong \
             $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer -fno-sanitize-recover=all)
ALL_LDFLAGS = $(LDFLAGS) $(if $(SAN),-fsanitize=$(SAN)) -Wl,-z,relro,-z,now

vmm_src := $(filter-out vmm/main.c,$(wildcard vmm/*.c))
virtio_src := $(wildcard virtio/*.c)
lib_src := $(wildcard vmm/lib/*.c)
cli_src := $(wildcard vmm/cli/*.c)
agent_src := $(filter-out agent/main.c,$(wildcard agent/*.c))
unit_src := $(wildcard tests/unit/*.c)

obj = $(patsubst %.c,$(B)/obj/%.o,$(1))

.PHONY: all
all: $(B)/bin/wisp

.DELETE_ON_ERROR:
.SECONDARY:

$(B)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(ALL_CFLAGS) -fPIC -MMD -MP -c $< -o $@

-include $(patsubst %.c,$(B)/obj/%.d,$(vmm_src) vmm/main.c $(virtio_src) $(lib_src) $(cli_src) $(agent_src) $(unit_src))

$(B)/libvmm.a: $(call obj,$(vmm_src) $(virtio_src))
	rm -f $@ && ar rcs $@ $^
$(B)/libagent.a: $(call obj,$(agent_src))
	rm -f $@ && ar rcs $@ $^
$(B)/libhost.a: $(call obj,$(lib_src))
	rm -f $@ && ar rcs $@ $^

# Unit tests: one program a file, each linked with all modules.
$(B)/tests/unit/%: $(B)/obj/tests/unit/%.o $(B)/libhost.a $(B)/libvmm.a $(B)/libagent.a
	@mkdir -p $(@D)
	$(CC) $(ALL_LDFLAGS) $< $(B)/libhost.a $(B)/libvmm.a $(B)/libagent.a -luring -lpthread -lutil -o $@
