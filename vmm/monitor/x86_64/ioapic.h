/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The I/O APIC (Intel's 82093AA), with as many pins as the machine has devices. KVM's own has 24, and a guest's kernel
 * walks all pins five times at boot, two exits a register: 580 of 1590 exits of a boot with three devices. KVM's also
 * brings a pair of 8259s that the guest then has to be led away from. The local APICs stay in KVM, and so does the way
 * of an interrupt: eventfd to local APIC. All pins are edges, as virtio-mmio's interrupts are here; the trigger mode is
 * kept and has no effect.
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

struct ioapic {
	/* The state of the guest's making. */
	uint8_t id;
	uint8_t selected;
	uint64_t entry[IOAPIC_PINS_MAX]; /* redirection table */
	unsigned pins;
	pthread_mutex_t lock;
	/*
	 * Called on a vCPU's thread, under `lock`, after where the pins lead has changed: entry[0] to entry[pins - 1].
	 * And, after that, for a pin that is not masked any more: what came in meanwhile is to be raised again.
	 */
	void (*route)(void *context, const uint64_t *entry, unsigned pins);
	void (*unmasked)(void *context, unsigned pin);
	void *context;
};

/* All pins masked. The caller has filled in the callbacks. */
void ioapic_init(struct ioapic *ioapic, unsigned pins);
void ioapic_destroy(struct ioapic *ioapic);

/* A bus_handler for IOAPIC_ADDR. */
void ioapic_access(void *context, uint64_t offset, void *data, unsigned len, bool is_write);

#endif
