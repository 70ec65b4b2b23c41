/* SPDX-License-Identifier: MIT */
/* The simulated disk: contents. Pages are shared between maps and copied before they are changed. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "engine/io/sim_disk.h"

void *sim_alloc(size_t size)
{
	void *p = calloc(1, size);

	if (!p)
		abort();
	return p;
}

/* splitmix64 */
uint64_t sim_random(struct sosie_disk *disk)
{
	uint64_t z = disk->random += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static void page_take(struct sosie_disk *disk, const struct sim_map *map, struct sim_page *page)
{
	page->refs++;
	if (map->live && page->live_refs++ == 0)
		disk->used++;
}

static void page_drop(struct sosie_disk *disk, const struct sim_map *map, struct sim_page *page)
{
	if (map->live && --page->live_refs == 0)
		disk->used--;
	if (--page->refs == 0)
		free(page);
}

/* The first slot at or after the page index. */
static size_t find_slot(const struct sim_map *map, uint64_t index)
{
	size_t low = 0, high = map->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (map->slots[middle].index < index)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void drop_slots(struct sosie_disk *disk, struct sim_map *map, size_t from, size_t to)
{
	for (size_t i = from; i < to; i++)
		page_drop(disk, map, map->slots[i].page);
	if (to > from)
		memmove(map->slots + from, map->slots + to, (map->count - to) * sizeof(*map->slots));
	map->count -= to - from;
}

static void make_room(struct sim_map *map, size_t count)
{
	size_t room = map->room ? map->room : 8;

	while (room < count)
		room *= 2;
	if (room == map->room)
		return;
	map->slots = realloc(map->slots, room * sizeof(*map->slots));
	if (!map->slots)
		abort();
	map->room = room;
}

void sim_map_clear(struct sosie_disk *disk, struct sim_map *map)
{
	drop_slots(disk, map, 0, map->count);
	free(map->slots);
	map->slots = NULL;
	map->room = 0;
	map->size = 0;
}

void sim_map_copy(struct sosie_disk *disk, struct sim_map *dst, const struct sim_map *src)
{
	struct sim_map copy = {.live = dst->live};

	copy.size = src->size;
	if (src->count > 0) {
		make_room(&copy, src->count);
		memcpy(copy.slots, src->slots, src->count * sizeof(*src->slots));
	}
	copy.count = src->count;
	for (size_t i = 0; i < copy.count; i++)
		page_take(disk, &copy, copy.slots[i].page);
	sim_map_clear(disk, dst);
	*dst = copy;
}

void sim_map_read(const struct sim_map *map, uint64_t offset, void *dst, size_t len)
{
	uint8_t *to = dst;
	size_t slot = find_slot(map, offset / SIM_PAGE);

	while (len > 0) {
		const uint64_t index = offset / SIM_PAGE;
		const size_t at = offset % SIM_PAGE, n = len < SIM_PAGE - at ? len : SIM_PAGE - at;

		if (slot < map->count && map->slots[slot].index == index)
			memcpy(to, map->slots[slot++].page->data + at, n);
		else
			memset(to, 0, n);
		to += n;
		offset += n;
		len -= n;
	}
}

static struct sim_page *page_copy(const struct sim_page *from)
{
	struct sim_page *page = sim_alloc(sizeof(*page));

	if (from)
		memcpy(page->data, from->data, SIM_PAGE);
	return page;
}

/* A page of this map's own at index, or NULL when the disk is full. */
static struct sim_page *own_page(struct sosie_disk *disk, struct sim_map *map, uint64_t index)
{
	const size_t slot = find_slot(map, index);
	const bool there = slot < map->count && map->slots[slot].index == index;
	struct sim_page *old = there ? map->slots[slot].page : NULL, *page;

	if (old && old->refs == 1)
		return old;
	if (map->live && (!old || old->live_refs > 1) && disk->used >= disk->capacity)
		return NULL;
	page = page_copy(old);
	page_take(disk, map, page);
	if (old) {
		page_drop(disk, map, old);
	} else {
		make_room(map, map->count + 1);
		memmove(map->slots + slot + 1, map->slots + slot, (map->count - slot) * sizeof(*map->slots));
		map->count++;
	}
	map->slots[slot] = (struct sim_slot){index, page};
	return page;
}

size_t sim_map_write(struct sosie_disk *disk, struct sim_map *map, uint64_t offset, const void *src,
                     size_t len)
{
	const uint8_t *from = src;
	size_t done = 0;

	while (done < len) {
		const size_t at = (offset + done) % SIM_PAGE;
		const size_t n = len - done < SIM_PAGE - at ? len - done : SIM_PAGE - at;
		struct sim_page *page = own_page(disk, map, (offset + done) / SIM_PAGE);

		if (!page)
			break;
		memcpy(page->data + at, from + done, n);
		done += n;
	}
	if (done > 0 && offset + done > map->size)
		map->size = offset + done;
	return done;
}

/* Zeros inside one page, which stays. A full disk cannot say no here: the page is ours or is shared, and room
 * is lent. */
static void zero_part(struct sosie_disk *disk, struct sim_map *map, uint64_t offset, size_t len)
{
	const size_t slot = find_slot(map, offset / SIM_PAGE);
	const uint64_t capacity = disk->capacity;
	struct sim_page *page;

	if (len == 0 || slot == map->count || map->slots[slot].index != offset / SIM_PAGE)
		return;
	disk->capacity = UINT64_MAX;
	page = own_page(disk, map, offset / SIM_PAGE);
	disk->capacity = capacity;
	memset(page->data + offset % SIM_PAGE, 0, len);
}

void sim_map_punch(struct sosie_disk *disk, struct sim_map *map, uint64_t offset, uint64_t len)
{
	uint64_t end, first, last;

	if (offset >= map->size || len == 0)
		return;
	end = len < map->size - offset ? offset + len : map->size;
	first = (offset + SIM_PAGE - 1) / SIM_PAGE;
	last = end == map->size ? (end + SIM_PAGE - 1) / SIM_PAGE : end / SIM_PAGE;
	if (first > last) { /* inside one page */
		zero_part(disk, map, offset, (size_t)(end - offset));
		return;
	}
	zero_part(disk, map, offset, (size_t)(first * SIM_PAGE - offset));
	if (end > last * SIM_PAGE)
		zero_part(disk, map, last * SIM_PAGE, (size_t)(end - last * SIM_PAGE));
	drop_slots(disk, map, find_slot(map, first), find_slot(map, last));
}

void sim_map_resize(struct sosie_disk *disk, struct sim_map *map, uint64_t size)
{
	if (size < map->size)
		sim_map_punch(disk, map, size, map->size - size);
	map->size = size;
}

void sim_map_next_data(const struct sim_map *map, uint64_t from, uint64_t *start, uint64_t *end)
{
	size_t slot = find_slot(map, from / SIM_PAGE);
	uint64_t index;

	*start = *end = map->size;
	if (from >= map->size || slot == map->count)
		return;
	index = map->slots[slot].index;
	*start = index * SIM_PAGE > from ? index * SIM_PAGE : from;
	while (slot < map->count && map->slots[slot].index == index) {
		slot++;
		index++;
	}
	*end = index * SIM_PAGE < map->size ? index * SIM_PAGE : map->size;
	if (*start > *end)
		*start = *end;
}

/* --- what is not yet durable
 * ------------------------------------------------------------------------------------- */

struct sim_change *sim_change_add(struct sim_inode *inode, enum sim_change_kind kind, uint64_t offset,
                                  uint64_t len)
{
	struct sim_change *c = sim_alloc(sizeof(*c));

	c->kind = kind;
	c->offset = offset;
	c->len = len;
	*inode->changes_end = c;
	inode->changes_end = &c->next;
	return c;
}

void sim_changes_drop(struct sosie_disk *disk, struct sim_inode *inode)
{
	for (struct sim_change *c = inode->changes, *next; c; c = next) {
		next = c->next;
		sim_map_clear(disk, &c->clone);
		free(c->data);
		free(c);
	}
	inode->changes = NULL;
	inode->changes_end = &inode->changes;
}

void sim_data_sync(struct sosie_disk *disk, struct sim_inode *inode)
{
	if (!inode->changes)
		return;
	sim_map_copy(disk, &inode->durable, &inode->live);
	inode->durable_mode = inode->mode;
	sim_changes_drop(disk, inode);
}

/* Each 512-byte sector of a write reached the disk or not. */
static void apply_torn_write(struct sosie_disk *disk, struct sim_map *map, const struct sim_change *c)
{
	uint64_t done = 0;

	while (done < c->len) {
		const uint64_t in_sector = SIM_SECTOR - (c->offset + done) % SIM_SECTOR;
		const uint64_t n = c->len - done < in_sector ? c->len - done : in_sector;

		if (sim_random(disk) & 1)
			sim_map_write(disk, map, c->offset + done, c->data + done, (size_t)n);
		done += n;
	}
}

static void apply(struct sosie_disk *disk, struct sim_inode *inode, const struct sim_change *c)
{
	switch (c->kind) {
	case SIM_WRITE:
		sim_map_write(disk, &inode->durable, c->offset, c->data, (size_t)c->len);
		break;
	case SIM_SIZE:
		sim_map_resize(disk, &inode->durable, c->len);
		break;
	case SIM_PUNCH:
		sim_map_punch(disk, &inode->durable, c->offset, c->len);
		break;
	case SIM_CLONE:
		sim_map_copy(disk, &inode->durable, &c->clone);
		break;
	case SIM_MODE:
		inode->durable_mode = (uint32_t)c->len;
		break;
	}
}

void sim_data_restart(struct sosie_disk *disk, struct sim_inode *inode, enum sosie_fate fate)
{
	for (const struct sim_change *c = inode->changes; c; c = c->next) {
		if (fate == SOSIE_FATE_KEPT)
			apply(disk, inode, c);
		else if (fate == SOSIE_FATE_TORN && c->kind == SIM_WRITE)
			apply_torn_write(disk, &inode->durable, c);
		else if (fate != SOSIE_FATE_LOST && (sim_random(disk) & 1))
			apply(disk, inode, c);
	}
	sim_changes_drop(disk, inode);
	sim_map_copy(disk, &inode->live, &inode->durable);
	inode->mode = inode->durable_mode;
}
