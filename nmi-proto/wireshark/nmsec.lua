-- Dissector of the management interface of iked (docs/nmi.md).
--
-- Copy it to the folder of personal Lua plugins, or: tshark -X lua_script:nmsec.lua -r session.pcap
-- A session is seen where the Unix socket is relayed over TCP, for example with
--     socat TCP-LISTEN:4749,bind=127.0.0.1,fork UNIX-CONNECT:/var/sock/ipsecmgmt
-- (port 4749, or "Decode as"), and in captures of link type USER0 with one message a packet.

local nmsec = Proto("nmsec", "IPsec network management interface")

-- made: tables
structures = {
  NMsecInFilter = {size = 232,
    {"NMsFltByTunnelID", 0, 0, 1, "bit"},
    {"NMsFltByName", 0, 1, 1, "bit"},
    {"NMsFltByVPNAction", 0, 2, 1, "bit"},
    {"NMsFltByGroup", 0, 3, 1, "bit"},
    {"NMsFltByLclAddr", 0, 4, 1, "bit"},
    {"NMsFltByRmtAddr", 0, 5, 1, "bit"},
    {"NMsFltByProtocol", 0, 6, 1, "bit"},
    {"NMsFltByState", 0, 7, 1, "bit"},
    {"NMsFltCurrentOnly", 1, 0, 1, "bit"},
    {"NMsFltIPv6", 1, 1, 1, "bit"},
    {"NMsFltShadow", 1, 2, 1, "bit"},
    {"NMsFltTunnelID", 4, 0, 384, "text"},
    {"NMsFltName", 52, 0, 384, "text"},
    {"NMsFltVPNAction", 100, 0, 384, "text"},
    {"NMsFltGroup", 148, 0, 384, "text"},
    {"NMsFltLclAddr", 196, 0, 128, "addr"},
    {"NMsFltRmtAddr", 212, 0, 128, "addr"},
    {"NMsFltLclPrefix", 228, 0, 8, "uint"},
    {"NMsFltRmtPrefix", 229, 0, 8, "uint"},
    {"NMsFltProtocol", 230, 0, 8, "uint"},
    {"NMsFltState", 231, 0, 8, "uint"},
  },
  NMsecStack = {size = 36,
    {"NMsStackIPSecurity", 0, 0, 1, "bit"},
    {"NMsStackIPv6Security", 0, 1, 1, "bit"},
    {"NMsStackDVIPSec", 0, 2, 1, "bit"},
    {"NMsStackLogging", 0, 3, 1, "bit"},
    {"NMsStackPreDecap", 0, 4, 1, "bit"},
    {"NMsStackFilterSet", 0, 5, 1, "bit"},
    {"NMsStackFIPS140", 0, 6, 1, "bit"},
    {"NMsStackName", 4, 0, 192, "text"},
    {"NMsStackNATKeepAlive", 28, 0, 32, "uint"},
    {"NMsStackDefMode", 32, 0, 8, "uint"},
  },
  NMsecExclAddr = {size = 24,
    {"NMsExclIPv6", 0, 0, 1, "bit"},
    {"NMsExclAddr", 4, 0, 128, "addr"},
    {"NMsExclPrefix", 20, 0, 8, "uint"},
  },
  NMsecStatistics = {size = 180,
    {"NMsStatP1Active", 0, 0, 32, "uint"},
    {"NMsStatP1InProgress", 4, 0, 32, "uint"},
    {"NMsStatP1Expired", 8, 0, 32, "uint"},
    {"NMsStatP1LclActSuccess", 12, 0, 64, "uint"},
    {"NMsStatP1RmtActSuccess", 20, 0, 64, "uint"},
    {"NMsStatP1LclActFailure", 28, 0, 64, "uint"},
    {"NMsStatP1RmtActFailure", 36, 0, 64, "uint"},
    {"NMsStatP1Retransmit", 44, 0, 64, "uint"},
    {"NMsStatP1Replay", 52, 0, 64, "uint"},
    {"NMsStatP1Invalid", 60, 0, 64, "uint"},
    {"NMsStatP1AuthFail", 68, 0, 64, "uint"},
    {"NMsStatP2Active", 76, 0, 32, "uint"},
    {"NMsStatP2ActiveShadow", 80, 0, 32, "uint"},
    {"NMsStatP2InProgress", 84, 0, 32, "uint"},
    {"NMsStatP2Expired", 88, 0, 32, "uint"},
    {"NMsStatP2LclActSuccess", 92, 0, 64, "uint"},
    {"NMsStatP2RmtActSuccess", 100, 0, 64, "uint"},
    {"NMsStatP2LclActFailure", 108, 0, 64, "uint"},
    {"NMsStatP2RmtActFailure", 116, 0, 64, "uint"},
    {"NMsStatP2Retransmit", 124, 0, 64, "uint"},
    {"NMsStatP2Replay", 132, 0, 64, "uint"},
    {"NMsStatP2Invalid", 140, 0, 64, "uint"},
    {"NMsStatPktPermit", 148, 0, 64, "uint"},
    {"NMsStatPktDeny", 156, 0, 64, "uint"},
    {"NMsStatPktMismatch", 164, 0, 64, "uint"},
    {"NMsStatManActive", 172, 0, 32, "uint"},
  },
  NMsecIPFilter = {size = 408,
    {"NMsFilName", 0, 0, 384, "text"},
    {"NMsFilNameExt", 48, 0, 32, "uint"},
    {"NMsFilGroup", 52, 0, 384, "text"},
    {"NMsFilLclStart", 100, 0, 384, "text"},
    {"NMsFilVPNAction", 148, 0, 384, "text"},
    {"NMsFilTunnelID", 196, 0, 384, "text"},
    {"NMsFilIPv6", 244, 0, 1, "bit"},
    {"NMsFilOnDemand", 244, 1, 1, "bit"},
    {"NMsFilFragOnly", 244, 2, 1, "bit"},
    {"NMsFilProtoAny", 244, 3, 1, "bit"},
    {"NMsFilProtoOpaque", 244, 4, 1, "bit"},
    {"NMsFilTypeAny", 244, 5, 1, "bit"},
    {"NMsFilCodeAny", 244, 6, 1, "bit"},
    {"NMsFilSrcPortAny", 244, 7, 1, "bit"},
    {"NMsFilDstPortAny", 245, 0, 1, "bit"},
    {"NMsFilType", 248, 0, 8, "uint"},
    {"NMsFilState", 249, 0, 8, "uint"},
    {"NMsFilAction", 250, 0, 8, "uint"},
    {"NMsFilScope", 251, 0, 8, "uint"},
    {"NMsFilDirection", 252, 0, 8, "uint"},
    {"NMsFilSecClass", 253, 0, 8, "uint"},
    {"NMsFilLogging", 254, 0, 8, "uint"},
    {"NMsFilDiscard", 255, 0, 8, "uint"},
    {"NMsFilProtocol", 256, 0, 8, "uint"},
    {"NMsFilTCPQual", 257, 0, 8, "uint"},
    {"NMsFilDefType", 258, 0, 8, "uint"},
    {"NMsFilRmtIDType", 259, 0, 8, "uint"},
    {"NMsFilSrcAddrType", 260, 0, 8, "uint"},
    {"NMsFilSrcPrefix", 261, 0, 8, "uint"},
    {"NMsFilDstAddrType", 262, 0, 8, "uint"},
    {"NMsFilDstPrefix", 263, 0, 8, "uint"},
    {"NMsFilSrcAddr", 264, 0, 128, "addr"},
    {"NMsFilSrcAddrHi", 280, 0, 128, "addr"},
    {"NMsFilDstAddr", 296, 0, 128, "addr"},
    {"NMsFilDstAddrHi", 312, 0, 128, "addr"},
    {"NMsFilRmtIDPayload", 328, 0, 128, "addr"},
    {"NMsFilSrcPortLo", 344, 0, 16, "uint"},
    {"NMsFilSrcPortHi", 346, 0, 16, "uint"},
    {"NMsFilDstPortLo", 348, 0, 16, "uint"},
    {"NMsFilDstPortHi", 350, 0, 16, "uint"},
    {"NMsFilTypeLo", 352, 0, 8, "uint"},
    {"NMsFilTypeHi", 353, 0, 8, "uint"},
    {"NMsFilCodeLo", 354, 0, 8, "uint"},
    {"NMsFilCodeHi", 355, 0, 8, "uint"},
    {"NMsFilGranSrcAddr", 356, 0, 1, "bit"},
    {"NMsFilGranSrcPort", 356, 1, 1, "bit"},
    {"NMsFilGranDstAddr", 356, 2, 1, "bit"},
    {"NMsFilGranDstPort", 356, 3, 1, "bit"},
    {"NMsFilGranProto", 356, 4, 1, "bit"},
    {"NMsFilGranType", 356, 5, 1, "bit"},
    {"NMsFilGranCode", 356, 6, 1, "bit"},
    {"NMsFilGranMIPv6", 356, 7, 1, "bit"},
    {"NMsFilLogLimit", 358, 0, 16, "uint"},
    {"NMsFilOrigRmtPort", 360, 0, 16, "uint"},
    {"NMsFilRmtUDPPort", 362, 0, 16, "uint"},
    {"NMsFilCreateTime", 364, 0, 32, "time"},
    {"NMsFilUpdateTime", 368, 0, 32, "time"},
    {"NMsFilExpires", 372, 0, 32, "time"},
    {"NMsFilMatches", 376, 0, 64, "uint"},
    {"NMsFilPermits", 384, 0, 64, "uint"},
    {"NMsFilDenies", 392, 0, 64, "uint"},
    {"NMsFilMismatches", 400, 0, 64, "uint"},
  },
  NMsecPortTran = {size = 44,
    {"NMsPTrIPv6", 0, 0, 1, "bit"},
    {"NMsPTrRmtAddr", 4, 0, 128, "addr"},
    {"NMsPTrInnerAddr", 20, 0, 128, "addr"},
    {"NMsPTrProtocol", 36, 0, 8, "uint"},
    {"NMsPTrTransPort", 38, 0, 16, "uint"},
    {"NMsPTrOrigPort", 40, 0, 16, "uint"},
  },
  NMsecIPTunnel = {size = 164,
    {"NMsIPTunID", 0, 0, 384, "text"},
    {"NMsIPTunVPNAction", 48, 0, 384, "text"},
    {"NMsIPTunFlagIPv6", 96, 0, 1, "bit"},
    {"NMsIPTunFIPS140", 96, 1, 1, "bit"},
    {"NMsIPTunType", 100, 0, 8, "uint"},
    {"NMsIPTunState", 101, 0, 8, "uint"},
    {"NMsIPTunEncapMode", 102, 0, 8, "uint"},
    {"NMsIPTunAuthProto", 103, 0, 8, "uint"},
    {"NMsIPTunAuthAlg", 104, 0, 8, "uint"},
    {"NMsIPTunEncrAlg", 105, 0, 8, "uint"},
    {"NMsIPTunKeyLength", 106, 0, 16, "uint"},
    {"NMsIPTunLclEndpt", 108, 0, 128, "addr"},
    {"NMsIPTunRmtEndpt", 124, 0, 128, "addr"},
    {"NMsIPTunInAuthSPI", 140, 0, 32, "uint"},
    {"NMsIPTunOutAuthSPI", 144, 0, 32, "uint"},
    {"NMsIPTunInEncrSPI", 148, 0, 32, "uint"},
    {"NMsIPTunOutEncrSPI", 152, 0, 32, "uint"},
    {"NMsIPTunStartTime", 156, 0, 32, "time"},
    {"NMsIPTunDFMode", 160, 0, 8, "uint"},
    {"NMsIPTunDSCPMode", 161, 0, 8, "uint"},
  },
  NMsecIPManualTunnel = {size = 32,
    {"NMsIPManOutPkts", 0, 0, 64, "uint"},
    {"NMsIPManOutBytes", 8, 0, 64, "uint"},
    {"NMsIPManInPkts", 16, 0, 64, "uint"},
    {"NMsIPManInBytes", 24, 0, 64, "uint"},
  },
  NMsecIPDynTunnel = {size = 224,
    {"NMsIPDynRule", 0, 0, 384, "text"},
    {"NMsIPDynIKETunID", 48, 0, 384, "text"},
    {"NMsIPDynUDPEncap", 96, 0, 1, "bit"},
    {"NMsIPDynLclNAT", 96, 1, 1, "bit"},
    {"NMsIPDynRmtNAT", 96, 2, 1, "bit"},
    {"NMsIPDynRmtNAPT", 96, 3, 1, "bit"},
    {"NMsIPDynRmtGW", 96, 4, 1, "bit"},
    {"NMsIPDynRmtZOS", 96, 5, 1, "bit"},
    {"NMsIPDynCanInitP2", 96, 6, 1, "bit"},
    {"NMsIPDynGeneration", 100, 0, 32, "uint"},
    {"NMsIPDynIKEMajor", 104, 0, 8, "uint"},
    {"NMsIPDynIKEMinor", 105, 0, 8, "uint"},
    {"NMsIPDynActMethod", 106, 0, 8, "uint"},
    {"NMsIPDynProtocol", 107, 0, 8, "uint"},
    {"NMsIPDynLclAddrType", 108, 0, 8, "uint"},
    {"NMsIPDynRmtAddrType", 109, 0, 8, "uint"},
    {"NMsIPDynLclPrefix", 110, 0, 8, "uint"},
    {"NMsIPDynRmtPrefix", 111, 0, 8, "uint"},
    {"NMsIPDynLclAddr", 112, 0, 128, "addr"},
    {"NMsIPDynLclAddrHi", 128, 0, 128, "addr"},
    {"NMsIPDynRmtAddr", 144, 0, 128, "addr"},
    {"NMsIPDynRmtAddrHi", 160, 0, 128, "addr"},
    {"NMsIPDynLclPortLo", 176, 0, 16, "uint"},
    {"NMsIPDynLclPortHi", 178, 0, 16, "uint"},
    {"NMsIPDynRmtPortLo", 180, 0, 16, "uint"},
    {"NMsIPDynRmtPortHi", 182, 0, 16, "uint"},
    {"NMsIPDynTypeLo", 184, 0, 8, "uint"},
    {"NMsIPDynTypeHi", 185, 0, 8, "uint"},
    {"NMsIPDynCodeLo", 186, 0, 8, "uint"},
    {"NMsIPDynCodeHi", 187, 0, 8, "uint"},
    {"NMsIPDynDHGroup", 188, 0, 16, "uint"},
    {"NMsIPDynRmtUDPPort", 190, 0, 16, "uint"},
    {"NMsIPDynLifetime", 192, 0, 32, "uint"},
    {"NMsIPDynRefreshTime", 196, 0, 32, "time"},
    {"NMsIPDynExpireTime", 200, 0, 32, "time"},
    {"NMsIPDynVPNLifeExp", 204, 0, 32, "time"},
    {"NMsIPDynLifesize", 208, 0, 64, "uint"},
    {"NMsIPDynRefreshSize", 216, 0, 64, "uint"},
  },
  NMsecIPDynamicStack = {size = 44,
    {"NMsIPDStOutPkts", 0, 0, 64, "uint"},
    {"NMsIPDStOutBytes", 8, 0, 64, "uint"},
    {"NMsIPDStInPkts", 16, 0, 64, "uint"},
    {"NMsIPDStInBytes", 24, 0, 64, "uint"},
    {"NMsIPDStCurSize", 32, 0, 64, "uint"},
    {"NMsIPDStShadow", 40, 0, 1, "bit"},
  },
  NMsecIPDynamicIKE = {size = 64,
    {"NMsIPDIkeExtState", 0, 0, 8, "uint"},
    {"NMsIPDIkeRole", 1, 0, 8, "uint"},
    {"NMsIPDIkeLclIDType", 2, 0, 8, "uint"},
    {"NMsIPDIkeRmtIDType", 3, 0, 8, "uint"},
    {"NMsIPDIkeSrcNATOA", 4, 0, 1, "bit"},
    {"NMsIPDIkeDstNATOA", 4, 1, 1, "bit"},
    {"NMsIPDIkePendAct", 4, 2, 1, "bit"},
    {"NMsIPDIkePendDeact", 4, 3, 1, "bit"},
    {"NMsIPDIkeSrcOAAddr", 8, 0, 32, "bytes"},
    {"NMsIPDIkeDstOAAddr", 12, 0, 32, "bytes"},
    {"NMsIPDIkeFilterRule", 16, 0, 384, "text"},
  },
  NMsecIKETunnel = {size = 256,
    {"NMsIKETunIPv6", 0, 0, 1, "bit"},
    {"NMsIKETunNATAllowed", 0, 1, 1, "bit"},
    {"NMsIKETunLclNAT", 0, 2, 1, "bit"},
    {"NMsIKETunRmtNAT", 0, 3, 1, "bit"},
    {"NMsIKETunRmtNAPT", 0, 4, 1, "bit"},
    {"NMsIKETunCanInitP1", 0, 5, 1, "bit"},
    {"NMsIKETunFIPS140", 0, 6, 1, "bit"},
    {"NMsIKETunID", 4, 0, 384, "text"},
    {"NMsIKETunKeyExchRule", 52, 0, 384, "text"},
    {"NMsIKETunKeyExchAction", 100, 0, 384, "text"},
    {"NMsIKETunLclEndpt", 148, 0, 128, "addr"},
    {"NMsIKETunRmtEndpt", 164, 0, 128, "addr"},
    {"NMsIKETunInitCookie", 180, 0, 64, "bytes"},
    {"NMsIKETunRespCookie", 188, 0, 64, "bytes"},
    {"NMsIKETunState", 196, 0, 8, "uint"},
    {"NMsIKETunExtState", 197, 0, 8, "uint"},
    {"NMsIKETunRole", 198, 0, 8, "uint"},
    {"NMsIKETunExchMode", 199, 0, 8, "uint"},
    {"NMsIKETunAuthAlg", 200, 0, 8, "uint"},
    {"NMsIKETunEncrAlg", 201, 0, 8, "uint"},
    {"NMsIKETunKeyLength", 202, 0, 16, "uint"},
    {"NMsIKETunDHGroup", 204, 0, 16, "uint"},
    {"NMsIKETunPRF", 206, 0, 8, "uint"},
    {"NMsIKETunLclAuth", 207, 0, 8, "uint"},
    {"NMsIKETunRmtAuth", 208, 0, 8, "uint"},
    {"NMsIKETunNATTLevel", 209, 0, 8, "uint"},
    {"NMsIKETunIKEMajor", 210, 0, 8, "uint"},
    {"NMsIKETunIKEMinor", 211, 0, 8, "uint"},
    {"NMsIKETunGeneration", 212, 0, 32, "uint"},
    {"NMsIKETunLifetime", 216, 0, 32, "uint"},
    {"NMsIKETunRefreshTime", 220, 0, 32, "time"},
    {"NMsIKETunExpireTime", 224, 0, 32, "time"},
    {"NMsIKETunReauthIntvl", 228, 0, 32, "uint"},
    {"NMsIKETunReauthTime", 232, 0, 32, "time"},
    {"NMsIKETunRmtUDPPort", 236, 0, 16, "uint"},
    {"NMsIKETunLclIDType", 238, 0, 8, "uint"},
    {"NMsIKETunRmtIDType", 239, 0, 8, "uint"},
    {"NMsIKETunLifesize", 240, 0, 64, "uint"},
    {"NMsIKETunStartTime", 248, 0, 32, "time"},
  },
  NMsecIKETunStats = {size = 112,
    {"NMsIKEStBytes", 0, 0, 64, "uint"},
    {"NMsIKEStP2Active", 8, 0, 32, "uint"},
    {"NMsIKEStP2InProgress", 12, 0, 32, "uint"},
    {"NMsIKEStP2Expired", 16, 0, 32, "uint"},
    {"NMsIKEStP2LclActSuccess", 24, 0, 64, "uint"},
    {"NMsIKEStP2RmtActSuccess", 32, 0, 64, "uint"},
    {"NMsIKEStP2LclActFailure", 40, 0, 64, "uint"},
    {"NMsIKEStP2RmtActFailure", 48, 0, 64, "uint"},
    {"NMsIKEStP1Retransmit", 56, 0, 64, "uint"},
    {"NMsIKEStP1Replay", 64, 0, 64, "uint"},
    {"NMsIKEStP1Invalid", 72, 0, 64, "uint"},
    {"NMsIKEStP1AuthFail", 80, 0, 64, "uint"},
    {"NMsIKEStP2Retransmit", 88, 0, 64, "uint"},
    {"NMsIKEStP2Replay", 96, 0, 64, "uint"},
    {"NMsIKEStP2Invalid", 104, 0, 64, "uint"},
  },
  NMsecInterface = {size = 36,
    {"NMsInterfaceName", 0, 0, 128, "text"},
    {"NMsInterfaceAddr", 16, 0, 128, "addr"},
    {"NMsInterfaceSecClass", 32, 0, 8, "uint"},
    {"NMsIPv6", 33, 0, 1, "bit"},
    {"NMsInterfaceActive", 33, 1, 1, "bit"},
    {"NMsInterfaceDVIPA", 33, 2, 1, "bit"},
  },
  NMsecNSS = {size = 100,
    {"NMsIKENSClientName", 0, 0, 192, "text"},
    {"NMsIKENSStackName", 24, 0, 64, "text"},
    {"NMsIKENSUserid", 32, 0, 64, "text"},
    {"NMsIKENSServerSysName", 40, 0, 64, "text"},
    {"NMsIKENSSConfigured", 48, 0, 1, "bit"},
    {"NMsIKENSSvcSelCert", 48, 1, 1, "bit"},
    {"NMsIKENSSvcEnblCert", 48, 2, 1, "bit"},
    {"NMsIKENSSvcSelRMgmt", 48, 3, 1, "bit"},
    {"NMsIKENSSvcEnblRMgmt", 48, 4, 1, "bit"},
    {"NMsIKENSIPv6", 48, 5, 1, "bit"},
    {"NMsIKENSConnState", 52, 0, 8, "uint"},
    {"NMsIKENSClientAPIVer", 53, 0, 8, "uint"},
    {"NMsIKENSServerAPIVer", 54, 0, 8, "uint"},
    {"NMsIKENSClientAddr", 56, 0, 128, "addr"},
    {"NMsIKENSServerAddr", 72, 0, 128, "addr"},
    {"NMsIKENSClientPort", 88, 0, 16, "uint"},
    {"NMsIKENSServerPort", 90, 0, 16, "uint"},
    {"NMsIKENSConnTime", 92, 0, 32, "time"},
    {"NMsIKENSLastMsgTime", 96, 0, 32, "time"},
  },
  NMsecDist = {size = 64,
    {"NMsDistDVIPA", 0, 0, 1, "bit"},
    {"NMsDistTakenOver", 0, 1, 1, "bit"},
    {"NMsDistCFRecord", 4, 0, 8, "uint"},
    {"NMsDistEpoch", 8, 0, 64, "uint"},
    {"NMsDistOwner", 16, 0, 192, "text"},
    {"NMsDistFrom", 40, 0, 192, "text"},
  },
  NMsecDrop = {size = 56,
    {"NMsDropReason", 0, 0, 384, "text"},
    {"NMsDropPackets", 48, 0, 64, "uint"},
  },
  NMsecDistribution = {size = 64,
    {"NMsDtrIPv6", 0, 0, 1, "bit"},
    {"NMsDtrDVIPA", 4, 0, 128, "addr"},
    {"NMsDtrTarget", 20, 0, 192, "text"},
    {"NMsDtrPort", 44, 0, 16, "uint"},
    {"NMsDtrActive", 48, 0, 64, "uint"},
    {"NMsDtrTotal", 56, 0, 64, "uint"},
  },
  NMsecDVIPA = {size = 276,
    {"NMsDvpIPv6", 0, 0, 1, "bit"},
    {"NMsDvpLeased", 0, 1, 1, "bit"},
    {"NMsDvpConnKnown", 0, 2, 1, "bit"},
    {"NMsDvpAddress", 4, 0, 128, "addr"},
    {"NMsDvpOwner", 20, 0, 192, "text"},
    {"NMsDvpOwnerSystem", 44, 0, 192, "text"},
    {"NMsDvpEpoch", 68, 0, 64, "uint"},
    {"NMsDvpState", 76, 0, 8, "uint"},
    {"NMsDvpTakeover", 77, 0, 8, "uint"},
    {"NMsDvpGiveback", 78, 0, 8, "uint"},
    {"NMsDvpCFState", 79, 0, 8, "uint"},
    {"NMsDvpCFReason", 80, 0, 1024, "text"},
    {"NMsDvpConnections", 208, 0, 64, "uint"},
    {"NMsDvpIKESAs", 216, 0, 32, "uint"},
    {"NMsDvpChildSAs", 220, 0, 32, "uint"},
    {"NMsDvpStored", 224, 0, 32, "uint"},
    {"NMsDvpFailed", 228, 0, 32, "uint"},
    {"NMsDvpSince", 232, 0, 32, "time"},
    {"NMsDvpLease", 236, 0, 32, "uint"},
    {"NMsDvpCeiling", 240, 0, 64, "uint"},
    {"NMsDvpFrom", 248, 0, 192, "text"},
  },
  NMsecBackup = {size = 52,
    {"NMsBkpStack", 0, 0, 192, "text"},
    {"NMsBkpSystem", 24, 0, 192, "text"},
    {"NMsBkpRank", 48, 0, 16, "uint"},
    {"NMsBkpState", 50, 0, 8, "uint"},
  },
  NMsecVipaTarget = {size = 104,
    {"NMsVtgIPv6", 0, 0, 1, "bit"},
    {"NMsVtgXCFIPv6", 0, 1, 1, "bit"},
    {"NMsVtgQuiesced", 0, 2, 1, "bit"},
    {"NMsVtgPreferred", 0, 3, 1, "bit"},
    {"NMsVtgLocal", 0, 4, 1, "bit"},
    {"NMsVtgReadyKnown", 0, 5, 1, "bit"},
    {"NMsVtgPathKnown", 0, 6, 1, "bit"},
    {"NMsVtgPathUp", 0, 7, 1, "bit"},
    {"NMsVtgConnKnown", 1, 0, 1, "bit"},
    {"NMsVtgDVIPA", 4, 0, 128, "addr"},
    {"NMsVtgTarget", 20, 0, 192, "text"},
    {"NMsVtgXCF", 44, 0, 128, "addr"},
    {"NMsVtgProtocol", 60, 0, 8, "uint"},
    {"NMsVtgMethod", 61, 0, 8, "uint"},
    {"NMsVtgPortLow", 64, 0, 16, "uint"},
    {"NMsVtgPortHigh", 66, 0, 16, "uint"},
    {"NMsVtgReady", 68, 0, 32, "uint"},
    {"NMsVtgWeight", 72, 0, 32, "uint"},
    {"NMsVtgActive", 76, 0, 64, "uint"},
    {"NMsVtgTotal", 84, 0, 64, "uint"},
    {"NMsVtgAffinity", 92, 0, 32, "uint"},
    {"NMsVtgHeard", 96, 0, 32, "uint"},
  },
  NMsecTakeover = {size = 268,
    {"NMsTkoIPv6", 0, 0, 1, "bit"},
    {"NMsTkoContinue", 0, 1, 1, "bit"},
    {"NMsTkoPlanned", 0, 2, 1, "bit"},
    {"NMsTkoDVIPA", 4, 0, 128, "addr"},
    {"NMsTkoFrom", 20, 0, 192, "text"},
    {"NMsTkoTo", 44, 0, 192, "text"},
    {"NMsTkoEpoch", 68, 0, 64, "uint"},
    {"NMsTkoCause", 76, 0, 8, "uint"},
    {"NMsTkoResult", 77, 0, 8, "uint"},
    {"NMsTkoStarted", 80, 0, 32, "time"},
    {"NMsTkoDuration", 84, 0, 64, "uint"},
    {"NMsTkoConnections", 92, 0, 64, "uint"},
    {"NMsTkoSAs", 100, 0, 32, "uint"},
    {"NMsTkoRemade", 104, 0, 32, "uint"},
    {"NMsTkoContinued", 108, 0, 32, "uint"},
    {"NMsTkoFailedSAs", 112, 0, 32, "uint"},
    {"NMsTkoWaiting", 116, 0, 32, "uint"},
    {"NMsTkoReason", 120, 0, 1024, "text"},
    {"NMsTkoReady", 248, 0, 64, "uint"},
  },
  NMsecTakeoverStep = {size = 20,
    {"NMsTksStep", 0, 0, 8, "uint"},
    {"NMsTksBegin", 4, 0, 64, "uint"},
    {"NMsTksDuration", 12, 0, 64, "uint"},
  },
  NMsecAuthority = {size = 284,
    {"NMsAutDisplay", 0, 0, 1, "bit"},
    {"NMsAutControl", 0, 1, 1, "bit"},
    {"NMsAutStack", 4, 0, 192, "text"},
    {"NMsAutDisplayBy", 28, 0, 1024, "text"},
    {"NMsAutControlBy", 156, 0, 1024, "text"},
  },
  NMsecCaller = {size = 68,
    {"NMsCalSuperuser", 0, 0, 1, "bit"},
    {"NMsCalUid", 4, 0, 32, "uint"},
    {"NMsCalPid", 8, 0, 32, "uint"},
    {"NMsCalUser", 12, 0, 256, "text"},
    {"NMsCalSystem", 44, 0, 192, "text"},
  },
  NMsecEvent = {size = 424,
    {"NMsEvtSequence", 0, 0, 64, "uint"},
    {"NMsEvtLost", 8, 0, 64, "uint"},
    {"NMsEvtTime", 16, 0, 32, "time"},
    {"NMsEvtKind", 20, 0, 16, "uint"},
    {"NMsEvtIPv6", 22, 0, 1, "bit"},
    {"NMsEvtStack", 24, 0, 192, "text"},
    {"NMsEvtTunnelID", 48, 0, 384, "text"},
    {"NMsEvtParentID", 96, 0, 384, "text"},
    {"NMsEvtRule", 144, 0, 384, "text"},
    {"NMsEvtLclAddr", 192, 0, 128, "addr"},
    {"NMsEvtRmtAddr", 208, 0, 128, "addr"},
    {"NMsEvtInSPI", 224, 0, 32, "uint"},
    {"NMsEvtOutSPI", 228, 0, 32, "uint"},
    {"NMsEvtGeneration", 232, 0, 32, "uint"},
    {"NMsEvtEpoch", 240, 0, 64, "uint"},
    {"NMsEvtOwner", 248, 0, 192, "text"},
    {"NMsEvtFrom", 272, 0, 192, "text"},
    {"NMsEvtReason", 296, 0, 1024, "text"},
  },
  NMsecDefensive = {size = 40,
    {"NMsDefStacks", 0, 0, 32, "uint"},
    {"NMsDefLifetime", 4, 0, 32, "uint"},
    {"NMsDefUser", 8, 0, 256, "text"},
  },
  NMsecDefensiveControl = {size = 240,
    {"NMsDctIPv6", 0, 0, 1, "bit"},
    {"NMsDctBoth", 0, 1, 1, "bit"},
    {"NMsDctFragOnly", 0, 2, 1, "bit"},
    {"NMsDctProtoAny", 0, 3, 1, "bit"},
    {"NMsDctTypeAny", 0, 4, 1, "bit"},
    {"NMsDctCodeAny", 0, 5, 1, "bit"},
    {"NMsDctByAction", 0, 6, 1, "bit"},
    {"NMsDctByLog", 0, 7, 1, "bit"},
    {"NMsDctByLogLimit", 1, 0, 1, "bit"},
    {"NMsDctByLifetime", 1, 1, 1, "bit"},
    {"NMsDctLog", 1, 2, 1, "bit"},
    {"NMsDctName", 4, 0, 384, "text"},
    {"NMsDctAction", 52, 0, 8, "uint"},
    {"NMsDctDirection", 53, 0, 8, "uint"},
    {"NMsDctScope", 54, 0, 8, "uint"},
    {"NMsDctProtocol", 55, 0, 8, "uint"},
    {"NMsDctSrcPrefix", 56, 0, 8, "uint"},
    {"NMsDctDstPrefix", 57, 0, 8, "uint"},
    {"NMsDctType", 58, 0, 8, "uint"},
    {"NMsDctCode", 59, 0, 8, "uint"},
    {"NMsDctSrcAddr", 60, 0, 128, "addr"},
    {"NMsDctDstAddr", 76, 0, 128, "addr"},
    {"NMsDctSrcPortLo", 92, 0, 16, "uint"},
    {"NMsDctSrcPortHi", 94, 0, 16, "uint"},
    {"NMsDctDstPortLo", 96, 0, 16, "uint"},
    {"NMsDctDstPortHi", 98, 0, 16, "uint"},
    {"NMsDctLogLimit", 100, 0, 16, "uint"},
    {"NMsDctStatus", 102, 0, 8, "uint"},
    {"NMsDctLifetime", 104, 0, 32, "uint"},
    {"NMsDctStacks", 108, 0, 32, "uint"},
    {"NMsDctReason", 112, 0, 1024, "text"},
  },
  NMsecTunnel = {size = 100,
    {"NMsTunName", 0, 0, 384, "text"},
    {"NMsTunTunnelID", 48, 0, 384, "text"},
    {"NMsTunStatus", 96, 0, 8, "uint"},
  },
  NMsecLoadPolicy = {size = 4,
    {"NMsPolFilterSet", 0, 0, 8, "uint"},
  },
  NMsecVipaControl = {size = 176,
    {"NMsVctByDVIPA", 0, 0, 1, "bit"},
    {"NMsVctIPv6", 0, 1, 1, "bit"},
    {"NMsVctDVIPA", 4, 0, 128, "addr"},
    {"NMsVctStack", 20, 0, 192, "text"},
    {"NMsVctStatus", 44, 0, 8, "uint"},
    {"NMsVctReason", 48, 0, 1024, "text"},
  },
  NMsecSubscription = {size = 8,
    {"NMsSubKinds", 0, 0, 32, "uint"},
  },
  NMsecTestPacket = {size = 48,
    {"NMsTpkIPv6", 0, 0, 1, "bit"},
    {"NMsTpkTyped", 0, 1, 1, "bit"},
    {"NMsTpkSource", 4, 0, 128, "addr"},
    {"NMsTpkDest", 20, 0, 128, "addr"},
    {"NMsTpkProtocol", 36, 0, 8, "uint"},
    {"NMsTpkDirection", 37, 0, 8, "uint"},
    {"NMsTpkSecClass", 38, 0, 8, "uint"},
    {"NMsTpkSrcPort", 40, 0, 16, "uint"},
    {"NMsTpkDstPort", 42, 0, 16, "uint"},
    {"NMsTpkType", 44, 0, 8, "uint"},
    {"NMsTpkCode", 45, 0, 8, "uint"},
  },
  NMsecVerdict = {size = 64,
    {"NMsVdtCertain", 0, 0, 1, "bit"},
    {"NMsVdtTreatment", 4, 0, 8, "uint"},
    {"NMsVdtTunnelID", 8, 0, 384, "text"},
    {"NMsVdtInSPI", 56, 0, 32, "uint"},
    {"NMsVdtOutSPI", 60, 0, 32, "uint"},
  },
}
types = {
  [0x1] = "NMsec_INIT",
  [0x2] = "NMsec_TERM",
  [0x101] = "NMsec_GET_STACKINFO",
  [0x102] = "NMsec_GET_SUMMARY",
  [0x103] = "NMsec_GET_IPFLTCURR",
  [0x104] = "NMsec_GET_IPFLTDEFAULT",
  [0x105] = "NMsec_GET_IPFLTPOLICY",
  [0x106] = "NMsec_GET_PORTTRAN",
  [0x107] = "NMsec_GET_IPTUNMANUAL",
  [0x108] = "NMsec_GET_IPTUNDYNSTACK",
  [0x109] = "NMsec_GET_IPTUNDYNIKE",
  [0x10a] = "NMsec_GET_IKETUN",
  [0x10b] = "NMsec_GET_IKETUNCASCADE",
  [0x10c] = "NMsec_GET_IPINTERFACES",
  [0x10d] = "NMsec_GET_IKENSINFO",
  [0x10e] = "NMsec_GET_CLIENTINFO",
  [0x201] = "NMsec_ACTIVATE_IPTUNMANUAL",
  [0x202] = "NMsec_DEACTIVATE_IPTUNMANUAL",
  [0x203] = "NMsec_ACTIVATE_IPTUNDYN",
  [0x204] = "NMsec_DEACTIVATE_IPTUNDYN",
  [0x205] = "NMsec_REFRESH_IPTUNDYN",
  [0x206] = "NMsec_DEACTIVATE_IKETUN",
  [0x207] = "NMsec_REFRESH_IKETUN",
  [0x208] = "NMsec_LOAD_POLICY",
  [0x8001] = "NMsec_EVENT",
  [0x8101] = "NMsec_GET_DROPS",
  [0x8102] = "NMsec_GET_DISTRIBUTION",
  [0x8103] = "NMsec_GET_DVIPA",
  [0x8104] = "NMsec_GET_VIPATARGETS",
  [0x8105] = "NMsec_GET_TAKEOVERS",
  [0x8106] = "NMsec_GET_AUTHORITY",
  [0x8107] = "NMsec_SUBSCRIBE",
  [0x8108] = "NMsec_UNSUBSCRIBE",
  [0x8109] = "NMsec_GET_DEFENSIVE",
  [0x81ff] = "NMsec_TEST_PACKET",
  [0x8201] = "NMsec_MOVE_DVIPA",
  [0x8202] = "NMsec_DEACTIVATE_DVIPA",
  [0x8203] = "NMsec_REACTIVATE_DVIPA",
  [0x8204] = "NMsec_QUIESCE_TARGET",
  [0x8205] = "NMsec_RESUME_TARGET",
  [0x8206] = "NMsec_ADD_DEFENSIVE",
  [0x8207] = "NMsec_UPDATE_DEFENSIVE",
  [0x8208] = "NMsec_DELETE_DEFENSIVE",
}
codes = {
  [0x0] = "OK",
  [0x6f] = "EACCES",
  [0x70] = "EAGAIN",
  [0x79] = "EINVAL",
  [0x7a] = "EIO",
  [0x8a] = "ENXIO",
  [0x458] = "EOPNOTSUPP",
  [0x467] = "ETIMEDOUT",
}
reasons = {
  [0x0] = "none",
  [0x1] = "NMsRsnBadIdent",
  [0x2] = "NMsRsnBadVersion",
  [0x3] = "NMsRsnBadType",
  [0x4] = "NMsRsnExcessiveSize",
  [0x5] = "NMsRsnHdrSize",
  [0x6] = "NMsRsnMsgSize",
  [0x7] = "NMsRsnReservedNonzero",
  [0x8] = "NMsRsnRecordLength",
  [0x9] = "NMsRsnRecordNum",
  [0xa] = "NMsRsnSecDesc",
  [0xb] = "NMsRsnSecLength",
  [0xc] = "NMsRsnBadFilter",
  [0xd] = "NMsRsnBadValue",
  [0xe] = "NMsRsnBadTarget",
  [0x14] = "NMsRsnMaxClients",
  [0x15] = "NMsRsnTimeout",
  [0x16] = "NMsRsnShutdown",
  [0x17] = "NMsRsnPolicyLoad",
  [0x18] = "NMsRsnInternal",
  [0x19] = "NMsRsnBusy",
}
-- end

-- Sections of the records of each message, in order. "identity": text or bytes of variable length.
local filters = {"NMsecIPFilter", "identity"}
local answers = {
  [0x0101] = {"NMsecStack", "NMsecExclAddr"},
  [0x0102] = {"NMsecStatistics"},
  [0x0103] = filters, [0x0104] = filters, [0x0105] = filters,
  [0x0106] = {"NMsecPortTran"},
  [0x0107] = {"NMsecIPTunnel", "NMsecIPManualTunnel"},
  [0x0108] = {"NMsecIPTunnel", "NMsecIPDynTunnel", "NMsecIPDynamicStack", "NMsecDist"},
  [0x0109] = {"NMsecIPTunnel", "NMsecIPDynTunnel", "NMsecIPDynamicIKE", "identity", "identity", "NMsecDist"},
  [0x010a] = {"NMsecIKETunnel", "NMsecIKETunStats", "identity", "identity", "NMsecDist"},
  [0x010b] = {"NMsecIKETunnel", "NMsecIKETunStats", "identity", "identity", "NMsecDist"},
  [0x010c] = {"NMsecInterface"},
  [0x010d] = {"NMsecNSS"},
  [0x8001] = {"NMsecEvent"},
  [0x8101] = {"NMsecDrop"},
  [0x8102] = {"NMsecDistribution"},
  [0x8103] = {"NMsecDVIPA", "NMsecBackup"},
  [0x8104] = {"NMsecVipaTarget"},
  [0x8105] = {"NMsecTakeover", "NMsecTakeoverStep"},
  [0x8106] = {"NMsecAuthority", "NMsecCaller"},
}
local cascaded = answers[0x0109]

local function sections_of(kind, is_input)
  if kind >= 0x0201 and kind <= 0x0207 then return {"NMsecTunnel"} end
  if kind == 0x0208 then return {"NMsecLoadPolicy"} end
  if kind >= 0x8201 and kind <= 0x8205 then return {"NMsecVipaControl"} end
  if kind == 0x8107 then return {"NMsecSubscription"} end
  if is_input then return {"NMsecInFilter"} end
  return answers[kind] or {}
end

local f = {
  kind = ProtoField.uint16("nmsec.type", "NMsMType", base.HEX, types),
  target = ProtoField.string("nmsec.target", "NMsMTarget"),
  rc = ProtoField.uint32("nmsec.rc", "NMsMRc", base.DEC),
  rsn = ProtoField.uint32("nmsec.rsn", "NMsMRsn", base.DEC),
  correlator = ProtoField.bytes("nmsec.correlator", "NMsMCorrelator"),
  text = ProtoField.string("nmsec.text", "Text"),
  uint = ProtoField.uint64("nmsec.uint", "Number"),
  address = ProtoField.string("nmsec.address", "Address"),
  bytes = ProtoField.bytes("nmsec.bytes", "Bytes"),
  fault = ProtoExpert.new("nmsec.fault", "Not of this format", expert.group.MALFORMED, expert.severity.ERROR),
}
nmsec.fields = {f.kind, f.target, f.rc, f.rsn, f.correlator, f.text, f.uint, f.address, f.bytes}
nmsec.experts = {f.fault}

local IDENT_ASCII, IDENT_EBCDIC = 0x4e4d734d, 0xd5d4a2d4

local function text_of(range, ebcdic)
  local s = range:string(ebcdic and ENC_EBCDIC or ENC_ASCII)
  return (s:gsub("%s+$", ""))
end

local function address_of(range)
  for i = 0, 11 do
    if range(i, 1):uint() ~= 0 then return tostring(range:ipv6()) end
  end
  return tostring(range(12, 4):ipv4())
end

local function structure(name, range, tree, ebcdic)
  local layout = structures[name]
  if layout == nil or range:len() < layout.size then
    tree:add(f.bytes, range):append_text(" (" .. name .. ")")
    return
  end
  local sub = tree:add(nmsec, range, name)
  for _, row in ipairs(layout) do
    local field, offset, bit, bits, form = row[1], row[2], row[3], row[4], row[5]
    if form == "bit" then
      local byte = range(offset, 1)
      local set = bit32.band(byte:uint(), bit32.rshift(0x80, bit)) ~= 0
      sub:add(byte, field .. ": " .. tostring(set))
    elseif form == "text" then
      local value = text_of(range(offset, bits / 8), ebcdic)
      sub:add(f.text, range(offset, bits / 8), value, field .. ": " .. value)
    elseif form == "addr" then
      local value = address_of(range(offset, 16))
      sub:add(f.address, range(offset, 16), value, field .. ": " .. value)
    elseif form == "uint" or form == "time" then
      local value = bits == 64 and range(offset, 8):uint64() or UInt64(range(offset, bits / 8):uint())
      sub:add(f.uint, range(offset, bits / 8), value, field .. ": " .. tostring(value))
    elseif form == "bytes" then
      sub:add(f.bytes, range(offset, bits / 8)):prepend_text(field .. ": ")
    end
  end
end

-- One record; where its lengths lie it is marked and left.
local function record(range, names, tree, ebcdic)
  local sub = tree:add(nmsec, range, "Record, " .. range:len() .. " bytes")
  local sections, cascades = range(10, 2):uint(), range(12, 2):uint()
  if 16 + sections * 8 + cascades * 12 > range:len() then
    sub:add_proto_expert_info(f.fault, "descriptors beyond the record")
    return
  end
  for n = 0, sections - 1 do
    local at = 16 + n * 8
    local offset, length, number = range(at, 4):uint(), range(at + 4, 2):uint(), range(at + 6, 2):uint()
    local name = names[n + 1] or "?"
    if offset + length * number > range:len() then
      sub:add_proto_expert_info(f.fault, "section beyond the record")
      return
    end
    for i = 0, number - 1 do
      if length > 0 then structure(name, range(offset + i * length, length), sub, ebcdic) end
    end
  end
  if cascades > 0 then
    local at = 16 + sections * 8
    local offset, length = range(at, 4):uint(), range(at + 4, 4):uint()
    local last = offset + length
    if last > range:len() then
      sub:add_proto_expert_info(f.fault, "cascade beyond the record")
      return
    end
    while offset + 16 <= last do
      local size = range(offset + 4, 4):uint()
      if size < 16 or offset + size > last then return end
      record(range(offset, size), cascaded, sub, ebcdic)
      offset = offset + size
    end
  end
end

local function message(tvb, pinfo, tree)
  pinfo.cols.protocol = "NMSEC"
  local ident = tvb(0, 4):uint()
  local ebcdic = ident == IDENT_EBCDIC
  local sub = tree:add(nmsec, tvb())
  if ident ~= IDENT_ASCII and not ebcdic or tvb:len() < 96 then
    sub:add_proto_expert_info(f.fault, "no message header")
    return
  end
  local kind = tvb(10, 2):uint()
  local target = text_of(tvb(40, 24), ebcdic)
  local rc, number = tvb(28, 4):uint(), tvb(88, 4):uint()
  local input = tvb(72, 4):uint()
  local name = types[kind] or string.format("type %#06x", kind)
  sub:append_text(", " .. name)
  pinfo.cols.info = name .. (target ~= "" and " " .. target or "") ..
    (number > 0 and ", " .. number .. " records" or "") .. (rc ~= 0 and ", return code " .. rc or "")
  sub:add(f.kind, tvb(10, 2))
  sub:add(f.correlator, tvb(16, 8))
  sub:add(f.rc, tvb(28, 4)):append_text(codes[rc] and " (" .. codes[rc] .. ")" or "")
  sub:add(f.rsn, tvb(32, 4)):append_text(reasons[tvb(32, 4):uint()] and
    " (" .. reasons[tvb(32, 4):uint()] .. ")" or "")
  sub:add(f.target, tvb(40, 24), target)
  local is_input = input > 0
  local at = is_input and tvb(64, 4):uint() or tvb(80, 4):uint()
  local names = sections_of(kind, is_input)
  if at < 96 then return end
  while at + 16 <= tvb:len() do
    local size = tvb(at + 4, 4):uint()
    if size < 16 or at + size > tvb:len() then
      sub:add_proto_expert_info(f.fault, "record beyond the message")
      return
    end
    record(tvb(at, size), names, sub, ebcdic)
    at = at + size
  end
end

function nmsec.dissector(tvb, pinfo, tree)
  if pinfo.can_desegment > 0 then
    dissect_tcp_pdus(tvb, tree, 16, function(t, _, offset) return t(offset + 12, 4):uint() end,
      function(t, p, sub) message(t, p, sub) return t:len() end)
  else
    message(tvb, pinfo, tree)
  end
  return tvb:len()
end

DissectorTable.get("tcp.port"):add(4749, nmsec)
DissectorTable.get("wtap_encap"):add((wtap_encaps or wtap).USER0, nmsec)
