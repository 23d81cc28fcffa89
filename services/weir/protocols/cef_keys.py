"""The keys of CEF's extension dictionary, by their short and their full names.

From the "Micro Focus Security ArcSight Common Event Format" guide, "Extension Dictionary" for producers and for consumers. Senders
are to use the short names; some write the full ones, so both are read.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

__all__ = ["DICTIONARY", "FULL_NAMES", "SHORT_NAMES"]

_SHORT = """
act deviceAction|agt agentAddress|ahost agentHostName|aid agentId|amac agentMacAddress|app applicationProtocol|art agentReceiptTime
at agentType|atz agentTimeZone|av agentVersion|c6a1 deviceCustomIPv6Address1|c6a2 deviceCustomIPv6Address2
c6a3 deviceCustomIPv6Address3|c6a4 deviceCustomIPv6Address4|cat deviceEventCategory|cfp1 deviceCustomFloatingPoint1
cfp2 deviceCustomFloatingPoint2|cfp3 deviceCustomFloatingPoint3|cfp4 deviceCustomFloatingPoint4|cn1 deviceCustomNumber1
cn2 deviceCustomNumber2|cn3 deviceCustomNumber3|cnt baseEventCount|cs1 deviceCustomString1|cs2 deviceCustomString2
cs3 deviceCustomString3|cs4 deviceCustomString4|cs5 deviceCustomString5|cs6 deviceCustomString6|dhost destinationHostName
dlat destinationGeoLatitude|dlong destinationGeoLongitude|dmac destinationMacAddress|dntdom destinationNtDomain
dpid destinationProcessId|dpriv destinationUserPrivileges|dproc destinationProcessName|dpt destinationPort|dst destinationAddress
dtz deviceTimeZone|duid destinationUserId|duser destinationUserName|dvc deviceAddress|dvchost deviceHostName|dvcmac deviceMacAddress
dvcpid deviceProcessId|end endTime|fname fileName|fsize fileSize|in bytesIn|msg message|out bytesOut|outcome eventOutcome
proto transportProtocol|request requestUrl|rt deviceReceiptTime|shost sourceHostName|slat sourceGeoLatitude|slong sourceGeoLongitude
smac sourceMacAddress|sntdom sourceNtDomain|spid sourceProcessId|spriv sourceUserPrivileges|sproc sourceProcessName|spt sourcePort
src sourceAddress|start startTime|suid sourceUserId|suser sourceUserName
"""

FULL_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    dict(pair.split() for line in _SHORT.split("\n") for pair in line.split("|") if pair)
)
"""Full name of each key that has a short one, labels of custom fields left out."""

SHORT_NAMES: Final[Mapping[str, str]] = MappingProxyType({full: short for short, full in FULL_NAMES.items()})

_CUSTOM = """
c6a1 c6a2 c6a3 c6a4 cfp1 cfp2 cfp3 cfp4 cn1 cn2 cn3 cs1 cs2 cs3 cs4 cs5 cs6 flexString1 flexString2 flexNumber1 flexNumber2
flexDate1 deviceCustomDate1 deviceCustomDate2
"""
_ONLY_LONG = """
agentDnsDomain agentNtDomain agentTranslatedAddress agentTranslatedZoneExternalID agentTranslatedZoneURI agentZoneExternalID
agentZoneURI customerExternalID customerURI destinationDnsDomain destinationServiceName destinationTranslatedAddress
destinationTranslatedPort destinationTranslatedZoneExternalID destinationTranslatedZoneURI destinationZoneExternalID
destinationZoneURI deviceDirection deviceDnsDomain deviceExternalId deviceFacility deviceInboundInterface deviceNtDomain
deviceOutboundInterface devicePayloadId deviceProcessName deviceTranslatedAddress deviceTranslatedZoneExternalID
deviceTranslatedZoneURI deviceZoneExternalID deviceZoneURI eventId externalId fileCreateTime fileHash fileId
fileModificationTime filePath filePermission fileType oldFileCreateTime oldFileHash oldFileId oldFileModificationTime
oldFileName oldFilePath oldFilePermission oldFileSize oldFileType rawEvent reason requestClientApplication requestContext
requestCookies requestMethod sourceDnsDomain sourceServiceName sourceTranslatedAddress sourceTranslatedPort
sourceTranslatedZoneExternalID sourceTranslatedZoneURI sourceZoneExternalID sourceZoneURI type
"""

DICTIONARY: Final = frozenset(
    {*FULL_NAMES, *SHORT_NAMES, *_CUSTOM.split(), *_ONLY_LONG.split()}
    | {f"{name}Label" for key in _CUSTOM.split() for name in (key, FULL_NAMES.get(key, key))}
)
"""Every key that the dictionary has, under each of its names."""
