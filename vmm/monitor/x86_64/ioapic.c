/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/x86_64/ioapic.h"

#include <errno.h>
#include <string.h>

#define SELECT 0x00u
#define WINDOW 0x10u

enum { REG_ID = 0x00, REG_VERSION = 0x01, REG_ARBITRATION = 0x02, REG_ENTRIES = 0x10 };

#define VERSION 0x11u
#define LOW_WRITABLE 0x0001afffull /* except delivery status and remote IRR, which are the device's */
#define HIGH_WRITABLE 0xff000000ull

void ioapic_init(struct ioapic *ioapic, unsigned pins)
{
	pthread_mutex_init(&ioapic->lock, NULL);
	ioapic->pins = pins;
	for (unsigned i = 0; i < IOAPIC_PINS_MAX; i++)
		ioapic->entry[i] = IOAPIC_MASKED;
}

void ioapic_destroy(struct ioapic *ioapic)
{
	pthread_mutex_destroy(&ioapic->lock);
}

void ioapic_save(struct ioapic *a, struct ioapic_state *state)
{
	pthread_mutex_lock(&a->lock);
	*state = (struct ioapic_state){.pins = a->pins, .id = a->id, .selected = a->selected};
	memcpy(state->entry, a->entry, sizeof(state->entry));
	pthread_mutex_unlock(&a->lock);
}

int ioapic_restore(struct ioapic *a, const struct ioapic_state *state)
{
	if (state->pins != a->pins)
		return -EINVAL;
	pthread_mutex_lock(&a->lock);
	a->id = state->id & 0x0f;
	a->selected = state->selected;
	uint64_t masked = IOAPIC_MASKED;
	for (unsigned i = 0; i < a->pins; i++) {
		a->entry[i] = state->entry[i] & (LOW_WRITABLE | HIGH_WRITABLE << 32);
		masked &= a->entry[i];
	}
	/* KVM begins without routes. To set them takes it up to a millisecond. */
	if (!masked)
		a->route(a->context, a->entry, a->pins);
	pthread_mutex_unlock(&a->lock);
	return 0;
}

static uint32_t read_register(const struct ioapic *a)
{
	unsigned half = a->selected - REG_ENTRIES;
	switch (a->selected) {
	case REG_ID:
	case REG_ARBITRATION: return (uint32_t)a->id << 24;
	case REG_VERSION: return VERSION | (a->pins - 1) << 16;
	default: return half / 2 < a->pins ? (uint32_t)(a->entry[half / 2] >> 32 * (half % 2)) : 0;
	}
}

static void write_entry(struct ioapic *a, unsigned half, uint32_t value)
{
	uint64_t old = a->entry[half / 2], new;
	if (half % 2)
		new = (old & 0xffffffff) | (value & HIGH_WRITABLE) << 32;
	else
		new = (old & ~0xffffffffull) | (value & LOW_WRITABLE);
	a->entry[half / 2] = new;
	/* A pin that was masked and still is does not matter. Most writes of a boot are such. */
	if (new == old || (old & new &IOAPIC_MASKED))
		return;
	a->route(a->context, a->entry, a->pins);
	if (old & IOAPIC_MASKED)
		a->unmasked(a->context, half / 2);
}

static void write_register(struct ioapic *a, uint32_t value)
{
	unsigned half = a->selected - REG_ENTRIES;
	if (a->selected == REG_ID)
		a->id = value >> 24 & 0x0f;
	else if (a->selected >= REG_ENTRIES && half / 2 < a->pins)
		write_entry(a, half, value);
}

void ioapic_access(void *context, uint64_t offset, void *data, unsigned len, bool is_write)
{
	struct ioapic *a = context;
	uint32_t value = 0;
	if (len > sizeof(value)) {
		memset(data, 0, len);
		return;
	}
	pthread_mutex_lock(&a->lock);
	if (is_write) {
		memcpy(&value, data, len);
		if (offset == SELECT)
			a->selected = (uint8_t)value;
		else if (offset == WINDOW)
			write_register(a, value);
	} else {
		if (offset == SELECT)
			value = a->selected;
		else if (offset == WINDOW)
			value = read_register(a);
		memcpy(data, &value, len);
	}
	pthread_mutex_unlock(&a->lock);
}
