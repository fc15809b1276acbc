/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/x86_64/serial.h"

#include <string.h>

enum { DATA = 0, IER = 1, IIR = 2, LCR = 3, MCR = 4, LSR = 5, MSR = 6, SCRATCH = 7 };

#define LCR_DLAB 0x80u
#define MCR_LOOP 0x10u
#define IIR_NONE 0x01u
#define LSR_EMPTY 0x60u /* transmitter ready and idle */
#define MSR_CARRIER 0xb0u

static void write_register(struct serial *s, uint64_t reg, uint8_t value)
{
	switch (reg) {
	case DATA:
		if (s->lcr & LCR_DLAB)
			s->divisor[0] = value;
		else if (!(s->mcr & MCR_LOOP))
			s->output(s->context, &value, 1);
		break;
	case IER:
		if (s->lcr & LCR_DLAB)
			s->divisor[1] = value;
		else
			s->ier = value & 0x0f;
		break;
	case LCR: s->lcr = value; break;
	case MCR: s->mcr = value & 0x1f; break;
	case SCRATCH: s->scratch = value; break;
	}
}

static uint8_t read_register(const struct serial *s, uint64_t reg)
{
	switch (reg) {
	case DATA: return s->lcr & LCR_DLAB ? s->divisor[0] : 0;
	case IER: return s->lcr & LCR_DLAB ? s->divisor[1] : s->ier;
	case IIR: return IIR_NONE;
	case LCR: return s->lcr;
	case MCR: return s->mcr;
	case LSR: return LSR_EMPTY;
	case MSR:
		/* In loop-back mode the modem's outputs are its inputs: the driver's probe checks that. */
		if (s->mcr & MCR_LOOP)
			return (uint8_t)((s->mcr & 0x0c) << 4 | (s->mcr & 0x02) << 3 | (s->mcr & 0x01) << 5);
		return MSR_CARRIER;
	default: return s->scratch;
	}
}

void serial_access(void *context, uint64_t offset, void *data, unsigned len, bool is_write)
{
	struct serial *serial = context;
	uint8_t value = 0;
	if (len == 0)
		return;
	if (is_write) {
		memcpy(&value, data, 1);
		write_register(serial, offset, value);
	} else {
		memset(data, 0, len);
		value = read_register(serial, offset);
		memcpy(data, &value, 1);
	}
}
