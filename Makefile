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

W := $(B)/lib/wisp
PROGRAMS := $(B)/bin/wisp $(W)/wisp-vmm $(B)/lib/libwisp.so $(B)/lib/libwisp.a
GUEST := $(W)/vmlinux-up $(W)/vmlinux-smp $(W)/initramfs.cpio $(W)/base.squashfs

.PHONY: all guest deps run check quick bench lint format install clean
all: $(PROGRAMS) $(W)/initramfs.cpio
guest: $(GUEST)

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

# --- the host's side ---

$(W)/wisp-vmm: $(call obj,vmm/main.c) $(B)/libvmm.a
	@mkdir -p $(@D)
	$(CC) $(ALL_LDFLAGS) $^ -Wl,-Bstatic -luring -Wl,-Bdynamic -lpthread -o $@

$(B)/lib/libwisp.a: $(call obj,$(lib_src))
	@mkdir -p $(@D)
	rm -f $@ && ar rcs $@ $^

$(B)/lib/libwisp.so.0: $(call obj,$(lib_src)) vmm/lib/libwisp.map
	@mkdir -p $(@D)
	$(CC) $(ALL_LDFLAGS) -shared -Wl,-soname,libwisp.so.0 -Wl,--version-script=vmm/lib/libwisp.map \
	    $(if $(SAN),,-Wl,-z,defs) $(call obj,$(lib_src)) -o $@
$(B)/lib/libwisp.so: $(B)/lib/libwisp.so.0
	ln -sf libwisp.so.0 $@

$(B)/bin/wisp: $(call obj,$(cli_src)) $(B)/lib/libwisp.a
	@mkdir -p $(@D)
	$(CC) $(ALL_LDFLAGS) $^ -o $@

# --- the guest's side: the agent, static and alone in its initramfs; the kernels; the default image ---

MUSL_CC ?= musl-gcc
AGENT_CFLAGS := -std=gnu11 -Os $(WARN) -static -fno-strict-aliasing -fno-asynchronous-unwind-tables \
                -ffunction-sections -fdata-sections -Wl,--gc-sections -s \
                -idirafter /usr/include -idirafter /usr/include/x86_64-linux-gnu

$(B)/agent/init: $(wildcard agent/*.c agent/*.h)
	@mkdir -p $(@D)
	$(MUSL_CC) $(CPPFLAGS) $(AGENT_CFLAGS) $(wildcard agent/*.c) -o $@

$(W)/initramfs.cpio: $(B)/agent/init
	@mkdir -p $(@D)
	touch -d @0 $<
	cd $(<D) && echo init | cpio --quiet -o -H newc -R 0:0 --reproducible > $(abspath $@)

$(W)/vmlinux-%: $(wildcard kernel-config/build kernel-config/*.config)
	@mkdir -p $(@D)
	kernel=$$(kernel-config/build $*) && ln -sf "$$(echo "$$kernel" | tail -n 1)" $@

$(W)/base.squashfs: rootfs/build-default
	@mkdir -p $(@D)
	rootfs/build-default $@
