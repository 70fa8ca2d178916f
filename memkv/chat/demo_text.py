"""What an editor might paste into a chat between two questions: filler for the demo, none of it a rule."""

from __future__ import annotations

FILLER = (
    """Notes from the morning meeting. The harbour series is ready apart from the map, which the graphics desk wants to
redraw because the old one still shows the ferry terminal on the northern quay. Ines spoke with three of the
pilots and one former dockmaster; the dockmaster remembers the winter of 1987, when the ice held eleven ships
outside the bar for nine days. The photo desk found a picture of that winter in the archive, a little soft but
usable across two columns. Tomas thinks that the second part should open with the night shift instead of the
council vote, since the vote was covered in May and readers wrote in to say that they had followed it. We agreed
to try both openings and read them aloud in the afternoon. The interview with the engineer from the tide
authority is moved to Thursday because her train was cancelled. What would you look at first in a story like
this?""",
    """Background for the school bus story. The district runs forty-one buses on thirty-six routes and lost seven
drivers since August. Two of the seven went to the parcel company by the motorway, which pays by the hour and
leaves the weekends free. The transport office has merged four routes in the hills, so that the first children
are now picked up at ten past six. Parents on the Linden road started a rota with private cars and a group chat
that has ninety members. The head of the primary school says that about a dozen children arrive late on an
average day, most of them by less than a quarter of an hour. The union asks for split shifts to be paid through;
the district says that this would cost as much as two new buses every year. There is a meeting in the gymnasium
next week. Which of these voices would you want to hear more from?""",
    """Letters that came in over the weekend. A retired surveyor explains why the two heights given for the church
tower differ: one is measured from the square, the other from the river bank, and the square was raised after
the flood of 1910. A reader from the lake villages asks for the ferry timetable to be printed again on Fridays,
as it was until last spring. Someone sent four pages about the chestnut trees on the station road, with
drawings, and would like to see at least the drawings in the paper. Two readers praise the crossword and one
complains about it. The beekeeper whom we visited in June writes that the swarm has come back to the same roof
and that the owner of the house has now bought a veil and a smoker. There is also a kind note from the family of
the late organist, who were glad of the obituary and found only one thing to add, that he played the trumpet
too. How would you order these on the page?""",
    """Draft of the market report, still without figures. The covered market opened again after eleven months, with a
new roof of larch and glass and the old iron columns underneath. Of the twenty-six stalls that were there
before, nineteen came back; the fishmonger from the corner has retired, and her place is taken by two brothers
who smoke trout in the valley. The cheese stall has moved to the light because the owner wants people to see the
rind. At noon there were queues in front of the bakery and the soup kitchen, and none at the flower stall, where
the tulips stood in buckets and the owner read a paperback. The architect walked through with her students and
pointed upwards a good deal. Several people said that it smelled different and could not say of what. A boy
counted the columns twice and came to thirty-one and thirty-two. What is missing here for someone who has never
been in the market?""",
    """Transcript of the call with the weather service, shortened. They expect the dry spell to go on until the middle
of the month in the western valleys and to break earlier in the east, with thunderstorms along the ridge. The
reservoir is at a level that it usually has in late August. The forester on the line said that the spruce on the
southern slopes are dropping needles and that the beetle traps fill faster than they can be emptied. The fire
brigade has moved one of its two large engines up to the pass for the time being. On the river the gauges read
low but not unusually so, and the canoe club has cut its season short by three weekends. The service will send
the maps by five, in the old format, and asked us to mention the volunteers who read the rain gauges every
morning, some of them for more than thirty years. What would be a calm way to begin this piece?""",
    """Plan for the anniversary issue. The first number of the paper appeared on four pages, printed on a hand press in
the back room of a chandler, and sold for a copper coin that nobody at the museum has been able to find. The
archive has copies of every year except three. We would like to show one page of each decade and beside it the
same street corner today. The printer offers a heavier paper for the cover and asks for the files two days
earlier than usual. The former editors have been invited; two of them have sent recollections, one of six lines
and one of nineteen pages. The youngest trainee will interview the oldest subscriber, who is ninety-eight and
has read the paper since she was taught to read with it. There is a small argument about whether the issue
should contain advertisements from the time, because some of them are charming and some are not. Which part
would you give the most room?""",
)
