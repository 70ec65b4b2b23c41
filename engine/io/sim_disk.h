/* SPDX-License-Identifier: MIT */
/*
 * The simulated disk's own parts, for sim.c (the back end's calls), sim_data.c (contents of inodes) and
 * sim_names.c (folders).
 *
 * Everything exists twice: live, as a running system sees it, and durable, as it is after a power cut, with
 * the changes between the two in order. fsync makes an inode's content, size and mode durable, but not its
 * name; sync_dir a folder's entries (and the other side of renames that touch it: a rename is one change).
 * Memory for tests: running out of it ends the process. One thread.
 */
#ifndef SOSIE_IO_SIM_DISK_H
#define SOSIE_IO_SIM_DISK_H

#include "engine/io/file.h"

#define SIM_PAGE 4096u
#define SIM_SECTOR 512u
#define SIM_NAME_MAX 255

struct sim_page {
	unsigned refs;      /* of all maps */
	unsigned live_refs; /* of live maps: what takes space */
	uint8_t data[SIM_PAGE];
};

/* Sparse content: pages in ascending order; a page that is missing reads as zeros. */
struct sim_map {
	struct sim_slot {
		uint64_t index;
		struct sim_page *page;
	} * slots;
	size_t count, room;
	uint64_t size;
	bool live;
};

enum sim_change_kind { SIM_WRITE, SIM_SIZE, SIM_PUNCH, SIM_CLONE, SIM_MODE };

/* A change of an inode that is not yet durable. */
struct sim_change {
	enum sim_change_kind kind;
	uint64_t offset, len; /* SIM_SIZE: len is the size; SIM_MODE: len is the mode */
	uint8_t *data;        /* SIM_WRITE */
	struct sim_map clone; /* SIM_CLONE */
	struct sim_change *next;
};

struct sim_entry {
	char *name;
	struct sim_inode *inode; /* counted in its refs */
};

struct sim_folder {
	struct sim_entry *entries;
	size_t count, room;
};

struct sim_inode {
	uint64_t number;
	bool dir;
	uint32_t mode, durable_mode;
	unsigned refs;   /* entries live and durable, changes of names, open files */
	unsigned opens;  /* open files among them */
	bool linked;     /* has a live name (there are no hard links) */
	unsigned shared; /* locks held */
	bool exclusive;
	uint64_t changed; /* operation that changed it last: its times */
	struct sim_map live, durable;
	struct sim_folder names, durable_names;
	struct sim_change *changes, **changes_end; /* not yet durable, oldest first */
	unsigned mark;
	struct sim_inode *next, **at; /* of all inodes of the disk */
};

/* One or two settings of names that happen together; inode NULL removes the name. */
struct sim_name_change {
	struct sim_setting {
		struct sim_inode *dir;
		char *name;
		struct sim_inode *inode;
	} set[2];
	unsigned count;
	bool chosen;
	struct sim_name_change *next;
};

struct sosie_disk {
	uint64_t capacity, used; /* pages */
	uint64_t random;
	bool reflink;
	uint64_t operations, cut_at;
	uint64_t next_number;
	unsigned instances, mark;
	struct sim_inode *inodes, *root;
	struct sim_name_change *name_changes, **name_changes_end; /* not yet durable, oldest first */
};

/* sim_data.c */
void *sim_alloc(size_t size); /* zeroed */
uint64_t sim_random(struct sosie_disk *disk);
void sim_map_clear(struct sosie_disk *disk, struct sim_map *map);
void sim_map_copy(struct sosie_disk *disk, struct sim_map *dst, const struct sim_map *src); /* shares pages */
void sim_map_read(const struct sim_map *map, uint64_t offset, void *dst, size_t len);
/* Returns what fitted on the disk: less than len when it is full. */
size_t sim_map_write(struct sosie_disk *disk, struct sim_map *map, uint64_t offset, const void *src,
                     size_t len);
void sim_map_resize(struct sosie_disk *disk, struct sim_map *map, uint64_t size);
void sim_map_punch(struct sosie_disk *disk, struct sim_map *map, uint64_t offset, uint64_t len);
void sim_map_next_data(const struct sim_map *map, uint64_t from, uint64_t *start, uint64_t *end);
struct sim_change *sim_change_add(struct sim_inode *inode, enum sim_change_kind kind, uint64_t offset,
                                  uint64_t len);
void sim_data_sync(struct sosie_disk *disk, struct sim_inode *inode);
void sim_data_restart(struct sosie_disk *disk, struct sim_inode *inode, enum sosie_fate fate);
void sim_changes_drop(struct sosie_disk *disk, struct sim_inode *inode);

/* sim_names.c */
struct sim_inode *sim_inode_new(struct sosie_disk *disk, bool dir, uint32_t mode);
void sim_inode_unref(struct sosie_disk *disk, struct sim_inode *inode);
/* Lets go of live content that nobody can reach any more. */
void sim_inode_forget(struct sosie_disk *disk, struct sim_inode *inode);
struct sim_inode *sim_folder_find(const struct sim_folder *folder, const char *name);
/* Changes live names now, durable ones when synced. count of 1 or 2. */
void sim_names_change(struct sosie_disk *disk, const struct sim_setting *set, unsigned count);
void sim_names_sync(struct sosie_disk *disk, struct sim_inode *dir);
void sim_names_restart(struct sosie_disk *disk, enum sosie_fate fate);
void sim_inodes_free(struct sosie_disk *disk);

#endif
