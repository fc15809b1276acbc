/* SPDX-License-Identifier: Apache-2.0 */
/* The modes are DEC's private ones, "ESC [ ? number h" and "l", and the keypad's, "ESC =" and "ESC >". */
#include <stdio.h>

#include "vmm/lib/modes.h"

#define ESC 0x1b
#define CAN 0x18
#define SUB 0x1a
#define KEYPAD 31u /* its bit */

/* In the order in which they are set back: the alternate screen has a cursor of its own, so it is left first. */
static const struct {
	uint16_t number;
	bool is_set; /* by default */
} known[] = {
        {1049, false}, {1047, false}, {47, false}, /* the alternate screen */
        {25, true},                                /* the cursor is visible */
        {7, true},                                 /* lines wrap */
        {1, false},                                /* the cursor keys send application sequences */
        {9, false}, {1000, false}, {1002, false}, {1003, false}, {1005, false}, {1006, false}, {1015, false},
        {1016, false}, /* the mouse is reported */
        {1004, false}, /* focus is reported */
        {2004, false}, /* pasted text is bracketed */
        {2026, false}, /* updates are held back */
};
#define KNOWN (sizeof(known) / sizeof(known[0]))

static void take_parameter(struct modes *modes)
{
	for (size_t i = 0; i < KNOWN; i++) {
		if (known[i].number == modes->number)
			modes->listed |= 1u << i;
	}
	modes->number = 0;
}

static void apply(struct modes *modes, bool set)
{
	for (size_t i = 0; i < KNOWN; i++) {
		uint32_t bit = 1u << i;
		if (modes->listed & bit)
			modes->changed = known[i].is_set == set ? modes->changed & ~bit : modes->changed | bit;
	}
}

static void take_escaped(struct modes *modes, uint8_t byte)
{
	modes->state = byte == '[' ? MODES_CSI : MODES_TEXT;
	modes->number = modes->listed = 0;
	if (byte == 'c') /* the terminal's reset */
		modes->changed = 0;
	else if (byte == '=')
		modes->changed |= 1u << KEYPAD;
	else if (byte == '>')
		modes->changed &= ~(1u << KEYPAD);
}

static void take_private(struct modes *modes, uint8_t byte)
{
	if (byte >= '0' && byte <= '9') {
		if (modes->number < UINT16_MAX)
			modes->number = modes->number * 10 + byte - '0';
	} else if (byte == ';') {
		take_parameter(modes);
	} else if (byte == 'h' || byte == 'l') {
		take_parameter(modes);
		apply(modes, byte == 'h');
		modes->state = MODES_TEXT;
	} else if (byte >= ' ') {
		modes->state = byte >= '@' ? MODES_TEXT : MODES_OTHER;
	}
}

void modes_track(struct modes *modes, const uint8_t *data, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		uint8_t byte = data[i];
		if (byte == ESC)
			modes->state = MODES_ESCAPE;
		else if (byte == CAN || byte == SUB)
			modes->state = MODES_TEXT;
		else if (modes->state == MODES_ESCAPE)
			take_escaped(modes, byte);
		else if (modes->state == MODES_CSI && byte == '?')
			modes->state = MODES_PRIVATE;
		else if (modes->state == MODES_PRIVATE)
			take_private(modes, byte);
		else if (modes->state != MODES_TEXT && byte >= ' ')
			modes->state = byte >= '@' ? MODES_TEXT : MODES_OTHER;
	}
}

size_t modes_reset(const struct modes *modes, char out[MODES_RESET_MAX])
{
	size_t used = 0;
	out[0] = '\0';
	for (size_t i = 0; i < KNOWN; i++) {
		if (modes->changed & 1u << i)
			used += (size_t)snprintf(out + used, MODES_RESET_MAX - used, "\033[?%u%c", known[i].number,
			        known[i].is_set ? 'h' : 'l');
	}
	if (modes->changed & 1u << KEYPAD)
		used += (size_t)snprintf(out + used, MODES_RESET_MAX - used, "\033>");
	/* Colours, which would stay on what is printed next. */
	if (used > 0)
		used += (size_t)snprintf(out + used, MODES_RESET_MAX - used, "\033[m");
	return used;
}
