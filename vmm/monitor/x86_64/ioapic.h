/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The I/O APIC (Intel's 82093AA), with as many pins as the machine has devices. KVM's own has 24, and a guest's kernel
 * visits all pins five times at boot, with two exits per register: 580 of the 1590 exits of a boot with three devices.
 * KVM's also comes with a pair of 8259s that the guest would have to be told not to use. The local APICs stay in KVM,
 * and so does the path of an interrupt, from eventfd to local APIC. All pins are edge-triggered, like virtio-mmio's
 * interrupts here; the trigger mode is stored and has no effect.
 */
#ifndef WISP_MONITOR_IOAPIC_X86_64_H
#define WISP_MONITOR_IOAPIC_X86_64_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define IOAPIC_ADDR 0xfec00000u
#define IOAPIC_SIZE 0x1000u
#define IOAPIC_PINS_MAX 24u

#define IOAPIC_MASKED (1ull << 16)

/* The state that the guest sets, as a snapshot has it. */
struct ioapic_state {
	uint64_t entry[IOAPIC_PINS_MAX];
	uint32_t pins;
	uint8_t id;
	uint8_t selected;
	uint8_t zero[2];
};

struct ioapic {
	/* The state that the guest sets. */
	uint8_t id;
	uint8_t selected;
	uint64_t entry[IOAPIC_PINS_MAX]; /* redirection table */
	unsigned pins;
	pthread_mutex_t lock;
	/*
	 * Both are called on a vCPU's thread, under `lock`. The first, after a change of where the pins lead: entry[0]
	 * to entry[pins - 1]. The second, after that, for a pin that has been unmasked: raise again what it missed.
	 */
	void (*route)(void *context, const uint64_t *entry, unsigned pins);
	void (*unmasked)(void *context, unsigned pin);
	void *context;
};

/* Masks all pins. The caller has filled in the callbacks. */
void ioapic_init(struct ioapic *ioapic, unsigned pins);
void ioapic_destroy(struct ioapic *ioapic);

void ioapic_save(struct ioapic *ioapic, struct ioapic_state *state);

/* Before the vCPUs run; calls `route`. 0, or -EINVAL if the state is of a controller with other pins. */
int ioapic_restore(struct ioapic *ioapic, const struct ioapic_state *state);

/* A bus_handler for IOAPIC_ADDR. */
void ioapic_access(void *context, uint64_t offset, void *data, unsigned len, bool is_write);

#endif
