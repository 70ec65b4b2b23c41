/* SPDX-License-Identifier: MIT */
/* The simulated disk: inodes and their names. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "engine/io/sim_disk.h"

struct sim_inode *sim_inode_new(struct sosie_disk *disk, bool dir, uint32_t mode)
{
	struct sim_inode *inode = sim_alloc(sizeof(*inode));

	inode->number = disk->next_number++;
	inode->dir = dir;
	inode->mode = inode->durable_mode = mode;
	inode->live.live = true;
	inode->changed = disk->operations;
	inode->changes_end = &inode->changes;
	inode->next = disk->inodes;
	inode->at = &disk->inodes;
	if (inode->next)
		inode->next->at = &inode->next;
	disk->inodes = inode;
	return inode;
}

static struct sim_entry *find_entry(const struct sim_folder *folder, const char *name)
{
	for (size_t i = 0; i < folder->count; i++)
		if (strcmp(folder->entries[i].name, name) == 0)
			return &folder->entries[i];
	return NULL;
}

struct sim_inode *sim_folder_find(const struct sim_folder *folder, const char *name)
{
	const struct sim_entry *e = find_entry(folder, name);

	return e ? e->inode : NULL;
}

static void folder_clear(struct sosie_disk *disk, struct sim_folder *folder)
{
	while (folder->count > 0) {
		struct sim_entry e = folder->entries[--folder->count];
		free(e.name);
		sim_inode_unref(disk, e.inode);
	}
	free(folder->entries);
	*folder = (struct sim_folder){NULL, 0, 0};
}

static void inode_free(struct sosie_disk *disk, struct sim_inode *inode)
{
	*inode->at = inode->next;
	if (inode->next)
		inode->next->at = inode->at;
	folder_clear(disk, &inode->names);
	folder_clear(disk, &inode->durable_names);
	sim_changes_drop(disk, inode);
	sim_map_clear(disk, &inode->live);
	sim_map_clear(disk, &inode->durable);
	free(inode);
}

void sim_inode_unref(struct sosie_disk *disk, struct sim_inode *inode)
{
	assert(inode->refs > 0);
	if (--inode->refs == 0)
		inode_free(disk, inode);
}

void sim_inode_forget(struct sosie_disk *disk, struct sim_inode *inode)
{
	if (!inode->linked && inode->opens == 0)
		sim_map_clear(disk, &inode->live);
}

static void folder_set(struct sosie_disk *disk, struct sim_folder *folder, const char *name,
                       struct sim_inode *inode)
{
	struct sim_entry *e = find_entry(folder, name);
	struct sim_inode *old = e ? e->inode : NULL;

	if (inode)
		inode->refs++;
	if (e && inode) {
		e->inode = inode;
	} else if (e) {
		free(e->name);
		*e = folder->entries[--folder->count];
	} else if (inode) {
		if (folder->count == folder->room) {
			folder->room = folder->room ? 2 * folder->room : 8;
			folder->entries = realloc(folder->entries, folder->room * sizeof(*folder->entries));
			if (!folder->entries)
				abort();
		}
		e = &folder->entries[folder->count++];
		e->name = strdup(name);
		e->inode = inode;
		if (!e->name)
			abort();
	}
	if (old)
		sim_inode_unref(disk, old);
}

static void set_live(struct sosie_disk *disk, const struct sim_setting *s)
{
	struct sim_inode *old = sim_folder_find(&s->dir->names, s->name);

	if (old)
		old->refs++;
	folder_set(disk, &s->dir->names, s->name, s->inode);
	s->dir->changed = disk->operations;
	if (s->inode)
		s->inode->linked = true;
	if (!old)
		return;
	if (old != s->inode) {
		old->linked = false;
		sim_inode_forget(disk, old);
	}
	sim_inode_unref(disk, old);
}

/* For a rename the removal comes first, so that the inode ends up linked. */
void sim_names_change(struct sosie_disk *disk, const struct sim_setting *set, unsigned count)
{
	struct sim_name_change *c = sim_alloc(sizeof(*c));

	c->count = count;
	for (unsigned i = 0; i < count; i++) {
		c->set[i] = set[i];
		c->set[i].name = strdup(set[i].name);
		if (!c->set[i].name)
			abort();
		c->set[i].dir->refs++;
		if (c->set[i].inode)
			c->set[i].inode->refs++;
	}
	/* The inode of a rename is open for a moment: its content must not be let go. */
	if (count == 2)
		set[1].inode->opens++;
	for (unsigned i = 0; i < count; i++)
		set_live(disk, &c->set[i]);
	if (count == 2)
		set[1].inode->opens--;
	*disk->name_changes_end = c;
	disk->name_changes_end = &c->next;
}

static void name_change_free(struct sosie_disk *disk, struct sim_name_change *c)
{
	for (unsigned i = 0; i < c->count; i++) {
		free(c->set[i].name);
		if (c->set[i].inode)
			sim_inode_unref(disk, c->set[i].inode);
		sim_inode_unref(disk, c->set[i].dir);
	}
	free(c);
}

/* An inode has one name: when only some changes survive, an older one may still be there. */
static void remove_other_names(struct sosie_disk *disk, const struct sim_inode *inode)
{
	for (struct sim_inode *dir = disk->inodes; dir; dir = dir->next)
		for (size_t i = 0; i < dir->durable_names.count; i++)
			if (dir->durable_names.entries[i].inode == inode) {
				folder_set(disk, &dir->durable_names, dir->durable_names.entries[i].name,
				           NULL);
				return;
			}
}

/* The caller's references of c keep all inodes alive. */
static void apply(struct sosie_disk *disk, const struct sim_name_change *c)
{
	for (unsigned i = 0; i < c->count; i++) {
		if (c->set[i].inode)
			remove_other_names(disk, c->set[i].inode);
		folder_set(disk, &c->set[i].dir->durable_names, c->set[i].name, c->set[i].inode);
	}
}

/* Applies what is chosen, in order; the rest stays. */
static void apply_chosen(struct sosie_disk *disk)
{
	struct sim_name_change **at = &disk->name_changes;

	while (*at) {
		struct sim_name_change *c = *at;

		if (!c->chosen) {
			at = &c->next;
			continue;
		}
		*at = c->next;
		apply(disk, c);
		name_change_free(disk, c);
	}
	disk->name_changes_end = at;
}

static bool touches_marked(const struct sosie_disk *disk, const struct sim_name_change *c)
{
	for (unsigned i = 0; i < c->count; i++)
		if (c->set[i].dir->mark == disk->mark)
			return true;
	return false;
}

/* Chooses the changes of dir, and what came before them in folders that they also touch. The list is walked
 * from its end. */
static void choose_for(struct sosie_disk *disk, struct sim_inode *dir)
{
	size_t count = 0, i = 0;
	struct sim_name_change **all;

	for (struct sim_name_change *c = disk->name_changes; c; c = c->next)
		count++;
	if (count == 0)
		return;
	all = sim_alloc(count * sizeof(struct sim_name_change *));
	for (struct sim_name_change *c = disk->name_changes; c; c = c->next)
		all[i++] = c;
	disk->mark++;
	dir->mark = disk->mark;
	while (i-- > 0) {
		all[i]->chosen = touches_marked(disk, all[i]);
		for (unsigned k = 0; all[i]->chosen && k < all[i]->count; k++)
			all[i]->set[k].dir->mark = disk->mark;
	}
	free(all);
}

void sim_names_sync(struct sosie_disk *disk, struct sim_inode *dir)
{
	choose_for(disk, dir);
	apply_chosen(disk);
}

static void choose_for_fate(struct sosie_disk *disk, enum sosie_fate fate)
{
	uint64_t count = 0, prefix = 0;

	for (const struct sim_name_change *c = disk->name_changes; c; c = c->next)
		count++;
	if (fate == SOSIE_FATE_KEPT)
		prefix = count;
	else if (fate == SOSIE_FATE_TORN)
		prefix = sim_random(disk) % (count + 1);
	for (struct sim_name_change *c = disk->name_changes; c; c = c->next) {
		c->chosen = fate == SOSIE_FATE_REORDERED ? (sim_random(disk) & 1) != 0 : prefix > 0;
		prefix -= prefix > 0;
	}
}

static void drop_name_changes(struct sosie_disk *disk)
{
	struct sim_name_change *c = disk->name_changes;

	disk->name_changes = NULL;
	disk->name_changes_end = &disk->name_changes;
	while (c) {
		struct sim_name_change *next = c->next;
		name_change_free(disk, c);
		c = next;
	}
}

/* Live names become the durable ones. */
static void show_durable(struct sosie_disk *disk, struct sim_inode *dir)
{
	folder_clear(disk, &dir->names);
	for (size_t i = 0; i < dir->durable_names.count; i++) {
		const struct sim_entry *e = &dir->durable_names.entries[i];
		folder_set(disk, &dir->names, e->name, e->inode);
		e->inode->linked = true;
	}
}

void sim_names_restart(struct sosie_disk *disk, enum sosie_fate fate)
{
	struct sim_inode *inode, *next;

	choose_for_fate(disk, fate);
	/* Freeing may take inodes out of the list under our hands: all are held meanwhile. */
	for (inode = disk->inodes; inode; inode = inode->next) {
		inode->refs++;
		inode->linked = inode == disk->root;
	}
	apply_chosen(disk);
	drop_name_changes(disk);
	for (inode = disk->inodes; inode; inode = inode->next)
		show_durable(disk, inode);
	/* An inode that is freed frees others only further down: those are still held by us, or have gone
	 * from the list. */
	for (inode = disk->inodes; inode; inode = next) {
		next = inode->next;
		sim_inode_unref(disk, inode);
	}
}

void sim_inodes_free(struct sosie_disk *disk)
{
	struct sim_inode *inode;

	drop_name_changes(disk);
	for (inode = disk->inodes; inode; inode = inode->next)
		inode->refs += 1;
	for (inode = disk->inodes; inode; inode = inode->next) {
		folder_clear(disk, &inode->names);
		folder_clear(disk, &inode->durable_names);
	}
	while (disk->inodes)
		inode_free(disk, disk->inodes);
}
