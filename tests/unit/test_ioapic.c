/* SPDX-License-Identifier: Apache-2.0 */
/* The I/O APIC: what a guest writes, and what reaches KVM of it. */
#include "tests/unit/test.h"
#include "vmm/monitor/x86_64/ioapic.h"

#define PINS 4u

struct fixture {
	struct ioapic ioapic;
	unsigned routed, raised;
	unsigned raised_pin;
	uint64_t route[IOAPIC_PINS_MAX];
};

static void route(void *context, const uint64_t *entry, unsigned pins)
{
	struct fixture *f = context;
	f->routed++;
	for (unsigned i = 0; i < pins; i++)
		f->route[i] = entry[i];
}

static void unmasked(void *context, unsigned pin)
{
	struct fixture *f = context;
	f->raised++;
	f->raised_pin = pin;
}

static void begin(struct fixture *f)
{
	*f = (struct fixture){.ioapic = {.route = route, .unmasked = unmasked, .context = f}};
	ioapic_init(&f->ioapic, PINS);
}

static void write32(struct fixture *f, uint64_t offset, uint32_t value)
{
	ioapic_access(&f->ioapic, offset, &value, sizeof(value), true);
}

static uint32_t read_register(struct fixture *f, uint32_t reg)
{
	uint32_t value = 0xdeadbeef;
	write32(f, 0x00, reg);
	ioapic_access(&f->ioapic, 0x10, &value, sizeof(value), false);
	return value;
}

static void write_register(struct fixture *f, uint32_t reg, uint32_t value)
{
	write32(f, 0x00, reg);
	write32(f, 0x10, value);
}

static void it_has_as_many_pins_as_asked_for(void)
{
	struct fixture f;
	begin(&f);
	CHECK_EQ(read_register(&f, 1), 0x11 | (PINS - 1) << 16);
	for (uint32_t pin = 0; pin < PINS; pin++) {
		CHECK_EQ(read_register(&f, 0x10 + 2 * pin), IOAPIC_MASKED);
		CHECK_EQ(read_register(&f, 0x11 + 2 * pin), 0);
	}
	write_register(&f, 0, 0x05ffffff);
	CHECK_EQ(read_register(&f, 0), 0x05000000);
	CHECK_EQ(read_register(&f, 2), 0x05000000);
	ioapic_destroy(&f.ioapic);
}

static void only_what_may_be_written_changes(void)
{
	struct fixture f;
	begin(&f);
	write_register(&f, 0x12, 0xffffffff);
	write_register(&f, 0x13, 0xffffffff);
	CHECK_EQ(read_register(&f, 0x12), 0x0001afff);
	CHECK_EQ(read_register(&f, 0x13), 0xff000000);
	CHECK_EQ(f.routed, 0); /* it is masked still */
	ioapic_destroy(&f.ioapic);
}

static void an_unmasked_pin_is_routed_and_raised_again(void)
{
	struct fixture f;
	begin(&f);
	write_register(&f, 0x15, 0x03000000); /* masked: nobody's business */
	CHECK_EQ(f.routed, 0);
	write_register(&f, 0x14, 0x31);
	CHECK_EQ(f.routed, 1);
	CHECK_EQ(f.raised, 1);
	CHECK_EQ(f.raised_pin, 2);
	CHECK_EQ(f.route[2], 0x0300000000000031);
	CHECK(f.route[0] & IOAPIC_MASKED);
	write_register(&f, 0x14, 0x31); /* as it was */
	CHECK_EQ(f.routed, 1);
	write_register(&f, 0x15, 0x01000000); /* moved to another processor */
	CHECK_EQ(f.routed, 2);
	CHECK_EQ(f.raised, 1);
	write_register(&f, 0x14, 0x10031);
	CHECK_EQ(f.routed, 3);
	CHECK(f.route[2] & IOAPIC_MASKED);
	ioapic_destroy(&f.ioapic);
}

/* Every register number, every offset and every width: under the sanitizers. */
static void nothing_lies_outside(void)
{
	struct fixture f;
	begin(&f);
	for (uint32_t reg = 0; reg < 256; reg++) {
		uint32_t before = read_register(&f, reg);
		if (reg == 1 || reg >= 0x10 + 2 * PINS) {
			write_register(&f, reg, 0x12345678);
			CHECK_EQ(read_register(&f, reg), before);
		}
	}
	CHECK_EQ(f.routed, 0);
	for (uint64_t offset = 0; offset < 64; offset++) {
		for (unsigned len = 1; len <= 8; len *= 2) {
			uint8_t data[8] = {0x12};
			ioapic_access(&f.ioapic, offset, data, len, true);
			ioapic_access(&f.ioapic, offset, data, len, false);
		}
	}
	ioapic_destroy(&f.ioapic);
}

TEST_MAIN("ioapic", {"it_has_as_many_pins_as_asked_for", it_has_as_many_pins_as_asked_for},
        {"only_what_may_be_written_changes", only_what_may_be_written_changes},
        {"an_unmasked_pin_is_routed_and_raised_again", an_unmasked_pin_is_routed_and_raised_again},
        {"nothing_lies_outside", nothing_lies_outside})
